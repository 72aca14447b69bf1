"""Equal weights: every task counts the same, however many samples it has in the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register


@register
class Equal(Weighting):
    """w_k = 1 (EW): every task counts the same, however many samples it has in the batch."""

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        return torch.ones_like(losses)
