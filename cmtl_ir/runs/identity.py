"""A run is a value: the hash of everything that matters to its weights and scores, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmtl_ir.config.experiment import Experiment, Strategy
from cmtl_ir.tasks.task import Task

SEMANTICS_VERSION = 4
"""Version of the numerical semantics. Increment it when the same configuration computes something else."""


def identity_of(experiment: Experiment, strategy: Strategy, seed: int, tasks: Mapping[str, Task]) -> dict[str, Any]:
    """What a run is made of: tasks and their pixels, backbone, training, parts, seed.

    Not labels, paths, device, the cadence of evaluation or of checkpoints. `conflict.every` belongs to it: a logged
    step updates from the very row gradients that it logs, which changes last bits.
    """
    validated = {name: task.val_digest for name, task in tasks.items() if task.val_digest is not None}
    return {
        **({"validation": validated} if validated else {}),
        "meaning": SEMANTICS_VERSION,
        "tasks": {name: task.digest for name, task in tasks.items()},
        "tests": {name: task.test_digest for name, task in tasks.items()},
        "patch": experiment.data.patch,
        "flips": experiment.data.flips,
        "backbone": strategy.backbone(experiment.backbone, list(tasks)),
        "training": experiment.training.model_dump(mode="json"),
        "protocol": experiment.evaluation.protocol,
        "conflict": experiment.conflict.every,
        **({"evaluations": experiment.evaluation.every} if strategy.curriculum.averages else {}),
        "strategy": strategy.resolved(),
        "seed": seed,
    }
