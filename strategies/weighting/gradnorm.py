"""GradNorm: weights that equalise the tasks' gradient norms, with slower tasks a little above the mean."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Cost, Tier, Weighting
from cmtl_ir.strategy.registry import register

from ._named import Table, bounded, gather, scatter

SMALLEST_WEIGHT = 1e-6


@register
class Gradnorm(Weighting):
    """GradNorm (Chen et al., ICML 2018, Alg. 1): w descends sum_k |w_k n_k - mean(w n) r_k^alpha|.

    The target is held fixed. r_k = (l_k / l_k of the task's first step) / their mean. n are the norms of the whole row
    gradients (the paper: of the last shared layer), read from the Gramian's diagonal. This gives the same number as the
    published double backward pass, without that pass. The step is divided by mean n, so that `lr` does not depend on
    the scale of the gradients [ours].
    """

    needs: ClassVar[Tier] = "gramian"
    cost: ClassVar[Cost] = Cost(backward_passes="1, split by row", memory="row gradients [K, P]")

    alpha: float = Field(1.5, ge=0)
    """Strength with which slower tasks are favoured. 0 gives equal norms."""
    lr: float = Field(0.025, gt=0)
    """Learning rate of the weights' own gradient descent."""

    def reset(self) -> None:
        """Reset to a state without tasks. Weights start at 1."""
        self._state = {"weight": {}, "first": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K], from before their step on this batch, for losses [K] and a Gramian [K, K]."""
        assert gramian is not None
        losses = bounded(losses)
        weights = gather(self.state["weight"], context.rows, torch.ones_like(losses))
        first: Table = self.state["first"]
        initial = gather(first, context.rows, losses)
        scatter(first, context.rows, initial)
        norms = gramian.diagonal().clamp(min=0).sqrt().to(losses)  # n [K]
        slope = self.slope(weights, norms, losses / initial)
        moved = (weights - self.lr * slope).clamp(min=SMALLEST_WEIGHT)
        scatter(self.state["weight"], context.rows, moved * (len(moved) / moved.sum()))
        return weights

    def slope(self, weights: Tensor, norms: Tensor, progress: Tensor) -> Tensor:
        """Return dL/dw / mean n [K] from weights, norms and l / l_first, each [K]."""
        scaled = weights * norms
        target = scaled.mean() * (progress / progress.mean()) ** self.alpha
        return torch.sign(scaled - target) * norms / norms.mean().clamp(min=torch.finfo(norms.dtype).tiny)
