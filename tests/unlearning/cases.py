"""Jobs without a tracking store: the same programs, the same loop, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.unlearning import methods_from
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store import checkpoint
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.unlearning import Unlearner
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import Watcher, train
from cmtl_ir.unlearning.jobs import runs_of
from cmtl_ir.unlearning.origin import Origin
from cmtl_ir.unlearning.planning import Job, plan
from tests import tiny

FEW: dict[str, dict[str, Any]] = {
    "instance_wise": {"steps": 4, "samples": 4, "batches": 1, "ascents": 2},
    "finetune": {"steps": 4},
    "ascent": {"steps": 4},
    "neggrad_plus": {"steps": 4},
    "identity_target": {"steps": 4},
    "scrub": {"steps": 8, "epochs": 3, "max_epochs": 1, "decays": [1]},
    "salun": {"base": {"name": "identity_target", "steps": 4}, "batches": 1},
    "ssd": {"samples": 4},
    "lfssd": {"samples": 4},
    "fisher": {"samples": 4},
    "influence": {"samples": 6},
    "variational": {"steps": 4, "samples": 4},
}
"""Every method that changes the weights of the trained model, with as little work as shows that it runs."""


def method(name: str, **fields: Any) -> Unlearner:
    """A method with these fields."""
    problems: list[Problem] = []
    made = methods_from({"one": {"name": name, **fields}}, problems)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return made["one"]


def job(origin: Origin, name: str, forget: tuple[str, ...] = ("haze",), use_retain: bool = True, **fields: Any) -> Job:
    """A request."""
    return Job(origin, name, method(name, **fields), forget, use_retain)


def learner_of(planned: PlannedRun) -> Learner:
    """At the beginning of the run."""
    made = planned.learner()
    assert planned.begin is not None
    planned.started(made)
    return made


def forgotten(asked: Job, watcher: Watcher | None = None) -> Learner:
    """The learner after the job."""
    made = learner_of(plan(asked))
    train(made, watcher or tiny.Silent())
    return made


def finished(asked: Job, out: Path) -> Run:
    """The job's runs, through checkpoints and results; the last one."""
    for planned in runs_of(asked):
        workspace = Workspace.at(out, "cpu")
        execute(planned, workspace, workspace.tracking.parent("tests", {}, ""))
    return planned.run


def original(origin: Origin) -> dict[str, Tensor]:
    """Weights of the run that is made to forget."""
    return checkpoint.load_weights(origin.folder / "weights.safetensors")[0]


def weights_in(run: Run) -> dict[str, Tensor]:
    """Of a finished run."""
    return checkpoint.load_weights(run.folder / "weights.safetensors")[0]
