"""Dynamic task prioritisation: more weight for the task with the least progress."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from ._named import Table, bounded, gather, scatter

LEAST, MOST = 0.01, 0.99


@register
class Dtp(Weighting):
    """Dynamic task prioritisation (Guo et al., ECCV 2018): w = -(1 - k)^gamma log k of a smoothed progress k.

    The progress of a task is 1 - l / m, between .01 and .99, where m is the loss of its degraded images themselves
    [ours; the paper has accuracies]. It starts as its first value. A task that cannot be learnt takes nearly all the
    weight, down to `floor`. With equal progress all weights are equal, up to rounding.
    """

    gamma: float = Field(1.0, ge=0)
    """Focus: larger values take more weight from tasks with progress."""
    alpha: float = Field(0.1, gt=0, le=1)
    """Weight of the newest value in the moving average of the progress."""
    floor: float = Field(0.05, gt=0, le=1)
    """Smallest progress that enters the weights [ours]."""

    def reset(self) -> None:
        self._state = {"progress": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from the progress that includes this batch."""
        progress = (1.0 - bounded(losses) / bounded(context.identity.to(losses))).clamp(LEAST, MOST)
        table: Table = self.state["progress"]
        smooth = self.alpha * progress + (1.0 - self.alpha) * gather(table, context.rows, progress)
        scatter(table, context.rows, smooth)
        return self.of_progress(smooth)

    def of_progress(self, progress: Tensor) -> Tensor:
        """Return the weights [K] of a smoothed progress [K]."""
        k = progress.clamp(min=self.floor)
        return -((1.0 - k) ** self.gamma) * torch.log(k)
