"""The identity of a run: everything that determines its weights and scores, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.config.own_training import trained_under
from cmtl_ir.config.progressive import training_identity
from cmtl_ir.tasks.task import Task

SEMANTICS_VERSION = 4
"""Version of the numerical semantics. Increment it when the same configuration computes something else."""


def identity_of(
    experiment: Experiment,
    strategy: Strategy,
    seed: int,
    tasks: Mapping[str, Task],
    start: Mapping[str, Any] | None = None,
    runs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the identity of a run: tasks and their pixels, backbone, training, parts and seed.

    `start`: hash of the weights that the run begins from, and the tasks that they know; `None`: initial weights.
    `runs`: name -> hash of the weights of the finished runs that objectives name; `None` or empty: they name none.
    Labels, paths, device and the cadence of evaluations and checkpoints are not part of it. `conflict.every` is: a
    logged step updates the weights from the row gradients that it logs, which changes the last bits.
    """
    experiment, strategy = trained_under(experiment, strategy)
    validated = {name: task.val_digest for name, task in tasks.items() if task.val_digest is not None}
    chosen = strategy.curriculum.averages or experiment.training.selects
    return {
        **({"validation": validated} if validated else {}),
        **({"holdout": experiment.data.holdout} if experiment.data.holdout != "fixed" else {}),
        **({"start": dict(start)} if start is not None else {}),
        **({"runs": dict(runs)} if runs else {}),
        "meaning": SEMANTICS_VERSION,
        "tasks": {name: task.digest for name, task in tasks.items()},
        "tests": {name: task.test_digest for name, task in tasks.items()},
        "patch": experiment.data.patch,
        "flips": experiment.data.flips,
        "backbone": strategy.backbone(experiment.backbone, list(tasks)),
        "training": training_identity(experiment),
        "protocol": experiment.evaluation.protocol,
        "conflict": experiment.conflict.every,
        **({"evaluations": experiment.evaluation.every} if chosen else {}),
        "strategy": strategy.resolved(),
        "seed": seed,
    }


def apart_from_seed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of an identity that all seeds of a strategy share.

    Under `data.holdout: rotate` the images differ between seeds too.
    """
    images = ("tasks", "tests", "validation") if identity.get("holdout") == "rotate" else ()
    return {key: value for key, value in identity.items() if key not in ("seed", *images)}
