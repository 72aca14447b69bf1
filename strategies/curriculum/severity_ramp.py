"""Joint training from mild to severe degradations."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register

from ._losses import identity_losses
from ._stages import split, uniform


@register
class SeverityRamp(Curriculum):
    """Joint training whose samples widen from the mildest tenth of each task to all of them [ours].

    A sample is a function of its id, so the ramp selects ids: of `ids` fixed ones per task, sorted by the loss of the
    degraded image itself, each stage of the ramp draws from a larger share. Afterwards training is joint, on the
    ordinary stream. Optimizer and learning-rate schedule go on throughout. `reverse` is the control: from the most
    severe ones. With `until: 0` it is joint training.
    """

    until: float = Field(0.5, ge=0, lt=1)
    """Share of the steps in the ramp."""
    stages: int = Field(5, ge=1)
    """Number of stages of the ramp."""
    begin: float = Field(0.1, gt=0, le=1)
    """Share of the ids in its first stage."""
    ids: int = Field(512, ge=10)
    """Number of fixed samples per task."""
    reverse: bool = False
    """Whether it begins with the most severe samples instead."""

    def reset(self) -> None:
        self._state = {"sorted": {}}

    def next_stage(self, history: History) -> Stage | None:
        """Return the next stage of the ramp, then the joint stage."""
        ramp = int(self.until * history.steps)
        lengths = split(ramp, [1] * self.stages) if ramp else []
        done, mixture = len(history.stages), uniform(history.tasks)
        if done > len(lengths):
            return None
        if done == len(lengths):
            return Stage("joint", mixture, history.steps - ramp, span=(ramp, history.steps))
        share = self.begin + (1.0 - self.begin) * done / max(self.stages - 1, 1)
        count = math.ceil(share * self.ids)
        memory = {task: sorted(self._sorted(task, history)[:count]) for task in history.tasks}
        span = (sum(lengths[:done]), history.steps)
        return Stage(f"ramp-{done + 1}", mixture, lengths[done], memory, span=span)

    def _sorted(self, task: str, history: History) -> list[int]:
        """Return the fixed ids of a task from mild to severe, which are measured once."""
        if task not in self.state["sorted"]:
            losses = identity_losses(history.learner, task, torch.arange(self.ids))
            order = torch.sort(losses, descending=self.reverse, stable=True).indices
            self.state["sorted"][task] = order.tolist()
        return list(self.state["sorted"][task])
