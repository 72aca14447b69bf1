"""Outside models in the store: a checkpoint is scored on an experiment's test images and then counts as a finished run.

Its identity holds the hash of its weights, its backbone, and the experiment's tasks and training settings, under which
it is unlearned and audited. It has no curriculum, no curve and no conflict history.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cmtl_ir.backbones.building import initial_model
from cmtl_ir.base import yaml
from cmtl_ir.base.environment import environment
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import neutral
from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.runs.begin.filling import fill
from cmtl_ir.runs.begin.weights import content_of, digest_of, source_place
from cmtl_ir.runs.execution import ActiveRun, execute
from cmtl_ir.runs.plan import PlannedRun, prepare
from cmtl_ir.runs.results import write_scored
from cmtl_ir.runs.watching.scoring import Scoring
from cmtl_ir.runs.watching.watcher import Cadence
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.listing import claim_folder, list_runs, listed_runs
from cmtl_ir.store.run import Run, hash_of
from cmtl_ir.training.learner import LEARNED


@dataclass(frozen=True)
class OutsideModel:
    """A network that was trained elsewhere."""

    name: str
    """Name of the checkpoint, such as the stem of its file."""
    backbone: Mapping[str, Any]
    """Name and all constructor fields of the network."""
    weights: Mapping[str, Tensor]
    """Its tensors, under the names of the backbone."""


@dataclass(frozen=True, eq=False)
class OutsideRun(PlannedRun):
    """A run that is scored with the weights of an outside model, and never trained."""

    model: OutsideModel | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the run for the tracking store. Those of its training are not known."""
        known = ("seed", "backbone", "tasks")
        return {key: value for key, value in super().parameters().items() if key.startswith(known)}


def outside_experiment(experiment: Experiment, model: OutsideModel) -> Experiment:
    """Return the experiment of an outside model: the same tasks and settings, its backbone, and the first seed."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", model.name)
    training = experiment.training.model_copy(update={"keep_best": None, "stop_early": None})
    return experiment.model_copy(
        update={
            "name": f"{experiment.name}.{name}",
            "backbone": dict(model.backbone),
            "training": training,
            "strategies": {OUTSIDE: neutral()},
            "start": None,
            "seeds": experiment.seeds[:1],
            "unlearning": None,
        }
    )


def expected_identity(planned: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity that a run must have, from that of its plan, if it is the run whose identity was found."""
    return {**planned, "strategy": {}, OUTSIDE: found[OUTSIDE]} if OUTSIDE in found else dict(planned)


def take_in(experiment: Experiment, model: OutsideModel, workspace: Workspace) -> Run:
    """Score an outside model on the test images of an experiment and return it as a finished run.

    It is listed as EXPERIMENT.NAME/outside. A model that was scored before is not scored again.
    """
    planned = plan_outside(outside_experiment(experiment, model), model, workspace)
    own = planned.experiment.model_copy(update={"name": _free_name(planned, workspace.out)})
    parent = workspace.tracking.parent(own.name, {}, yaml.dump(own.resolved()))
    execute(replace(planned, experiment=own), workspace, parent, wait=True)
    folder = claim_folder(own.resolved(), workspace.out)
    list_runs(folder, [{"label": OUTSIDE, "seed": planned.run.seed, "hash": planned.run.hash}])
    return planned.run


def _free_name(planned: PlannedRun, out: Path) -> str:
    """Return the name of the comparison of an outside model, with its hash if another model has the plain name."""
    name, hash_ = planned.experiment.name, planned.run.hash
    others = [row for row in listed_runs(out / name) if row["hash"] != hash_]
    return f"{name}-{hash_[:6]}" if others else name


def plan_outside(own: Experiment, model: OutsideModel, workspace: Workspace) -> OutsideRun:
    """Plan the run of an outside model. `own` is its experiment. Raises UserError for wrong data."""
    (one,) = prepare(own, workspace.out, workspace.device).planned
    return as_outside(one, model)


def as_outside(one: PlannedRun, model: OutsideModel) -> OutsideRun:
    """Return the run of an outside model in place of a run on the same tasks."""
    identity = expected_identity(one.run.identity, {OUTSIDE: digest_of(model.weights)})
    run = replace(one.run, identity=identity, folder=one.run.folder.parent / hash_of(identity))
    work = "cmtl_ir.runs.begin.outside:score_outside"
    return OutsideRun(run, one.experiment, one.tasks, one.strategy, one.device, work=work, model=model)


def existing_model(experiment: Experiment, source: str, seed: int, out: Path) -> OutsideModel:
    """Return the network of a finished run or of a file of weights, which must be that of the experiment's backbone.

    Of a run with several seeds, the same seed is taken. Raises UserError if there is no such network.
    """
    network = initial_model(experiment.backbone, seed)
    fill(network, content_of(source_place(source, seed, out)), (), source)
    return OutsideModel(Path(source).stem, experiment.backbone, dict(network.state_dict()))


def score_outside(active: ActiveRun) -> None:
    """Score the outside model of a run and write all files of a finished run. This is the work of such a run."""
    planned = active.planned
    assert isinstance(planned, OutsideRun) and planned.model is not None
    learner = planned.learner()
    learner.model.load_state_dict(planned.model.weights)
    learner.learned = learner.tasks
    learner.finished = (learner.learned_stage(),)
    scoring = Scoring(learner, planned.evaluator(), Cadence.of(planned.experiment), active.tracker)
    scoring.evaluate(LEARNED)
    cost = {
        "steps": 0,
        "seconds": 0.0,
        "cpu_seconds": 0.0 if learner.device.type == "cpu" else None,
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters()),
        "environment": environment(learner.device),
    }
    write_scored(active, learner, scoring, cost)
