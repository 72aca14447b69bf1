"""Old degradations on new images: replay without a memory."""

from __future__ import annotations

import torch
from pydantic import Field

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Learner, Row, Stage
from cmtl_ir.strategy.parts import Retention
from cmtl_ir.strategy.registry import register

from ..shared.tasks import old_tasks, own_tasks


@register
class DegradationReplay(Retention):
    """Exact generative replay with zero memory [ours]: old degradations on the clean images of the current task.

    Degradations are formulas, so an old one can be applied again, with the parameters of its samples and the true
    target. A row runs over n = 0, 1, ... and combines image, crop and flip of (new task, n) with the parameters of (old
    task, n). Tasks whose degraded images are given as pairs have no formula and are refused by name.
    """

    share: float = Field(0.5, ge=0, lt=1)
    """Share of the batch that old tasks take together, split equally between them."""
    strength: float = Field(1.0, ge=0)
    """lambda: weight of a replayed sample relative to a new one."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Raise ConfigError before training if the degradation of a task cannot be applied to given images."""
        if "seen" in self.state:
            return
        self.state["seen"] = []
        for task in learner.tasks:
            try:
                learner.batch(task, torch.zeros(1, dtype=torch.int64), images=task)
            except ValueError as error:
                raise ConfigError(f"retention: {self.called} cannot protect {task}: {error}") from error

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` for every old task, on the images of the stage's first task."""
        old, images = old_tasks(self.state["seen"], stage), next(iter(stage.mixture)).rpartition(":")[2]
        return [Row(f"memory:{t}", t, self.share / len(old), self.strength, images=images) for t in old]

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Add the stage's tasks to the old tasks."""
        self.state["seen"] += [task for task in own_tasks(stage) if task not in self.state["seen"]]
