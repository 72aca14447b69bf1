"""Active reweighting: more weight for a task whose loss rises and is far from its best."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from ._named import SMALLEST_LOSS, bounded, gather, scatter


@register
class Art(Weighting):
    """Active reweighting (Wu, Jiang, Jiang, Liu, ACM MM 2024; authors' code `rebalance_loss.py`).

    s_k = (l_k / E_k) (log m_k / log l_k) / tau, w = softmax(s); then E_k <- .01 l_k + .99 E_k, m_k <- min(m_k, l_k).

    The first factor is above 1 if a loss rises against its own history. The second is above 1 if it is far from its
    best on a dB-like scale. At tau = .1 the softmax is nearly a hard maximum, and the start (E = m = .1) is one-hot, so
    sweep tau. Departures from the release:

    - It takes any number of tasks.
    - The third task's E is updated. A misspelt name prevents this in the release.
    - A loss at or above `ceiling` is outside the log scale, so its second factor is 1. The quotient diverges at 1, and
      one such task would take all the weight for ever.
    """

    temperature: float = Field(0.1, gt=0)
    """tau: temperature of the softmax over tasks. A small value is nearly a hard maximum."""
    momentum: float = Field(0.01, gt=0, le=1)
    """Share of the newest loss in the running mean E."""
    start: float = Field(0.1, gt=0)
    """Initial E and m of a task."""
    ceiling: float = Field(0.999, gt=SMALLEST_LOSS, lt=1)
    """Upper bound of the losses inside the logarithms. The lower bound is 1e-6."""

    def reset(self) -> None:
        self._state = {"mean": {}, "best": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from the state before this batch."""
        losses, start = bounded(losses), torch.full_like(losses, self.start)
        mean = gather(self.state["mean"], context.rows, start)  # E [K]
        best = gather(self.state["best"], context.rows, start)  # m [K]
        distance = best.clamp(max=self.ceiling).log() / losses.clamp(max=self.ceiling).log()  # [K]
        distance = torch.where(losses < self.ceiling, distance, 1.0)
        scores = (losses / mean) * distance / self.temperature
        scatter(self.state["mean"], context.rows, self.momentum * losses + (1 - self.momentum) * mean)
        scatter(self.state["best"], context.rows, torch.minimum(best, losses))
        return torch.softmax(scores, 0)
