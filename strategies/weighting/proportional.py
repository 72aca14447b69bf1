"""Every sample counts the same: the ordinary mean over the batch."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from ._named import beside


@register
class Proportional(Weighting):
    """w_k = K n_k / sum n: every sample counts the same, so a mixture's shares mean what a reader expects.

    The default, and the plain mean over the batch. With equal counts it is `equal`.
    """

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """losses [K] -> weights [K]."""
        counts = beside(context.counts, losses)  # [K]
        return counts * (len(counts) / sum(context.counts))
