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
    """Exact generative replay with zero memory [ours]: old degradations on the clean images of the task at hand.

    Degradations are formulas, so an old one can be had again, with the parameters of its samples and the true target.
    A row over n = 0, 1, ...: image, crop and flip of (new task, n), parameters of (old task, n). Tasks whose degraded
    images are given, as pairs, have no formula: they are refused by name.
    """

    share: float = Field(0.5, ge=0, lt=1)
    """Share of the batch that old tasks take together, split equally between them."""
    strength: float = Field(1.0, ge=0)
    """lambda: weight of a replayed sample against a new one."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Before anything is trained, every task is asked for one sample of its degradation on another's image."""
        if "seen" in self.state:
            return
        self.state["seen"] = []
        for task in learner.tasks:
            try:
                learner.batch(task, torch.zeros(1, dtype=torch.int64), images=task)
            except ValueError as error:
                raise ConfigError(f"retention: {self.called} cannot protect {task}: {error}") from error

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """`memory:TASK` of every old task, on the images of the stage's first task."""
        old, images = old_tasks(self.state["seen"], stage), next(iter(stage.mixture)).rpartition(":")[2]
        return [Row(f"memory:{t}", t, self.share / len(old), self.strength, images=images) for t in old]

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """The stage's tasks are old from here on."""
        self.state["seen"] += [task for task in own_tasks(stage) if task not in self.state["seen"]]
