"""Weights in proportion to the samples of a task: the ordinary mean over the batch."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from ._named import on_device_of


@register
class Proportional(Weighting):
    """w_k = K n_k / sum n: every sample counts the same, so a mixture's shares mean what a reader expects.

    This is the default and the plain mean over the batch. With equal counts it is the same as `equal`.
    """

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        counts = on_device_of(context.counts, losses)  # [K]
        return counts * (len(counts) / sum(context.counts))
