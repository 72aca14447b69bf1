"""Random weights: the control that any other weighting has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from cmtl_ir.base.keyed import normal
from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register


@register
class Rlw(Weighting):
    """Random loss weighting (Lin et al., TMLR 2022, arXiv 2111.10603, Alg. 2): w = K softmax(z), z ~ N(0, 1).

    z is keyed by (seed, step, row name). So there is no generator and no state, and the order of the rows has no
    effect.
    """

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        keys = torch.tensor([context.key("rlw", row) for row in context.rows], dtype=torch.int64)
        drawn = normal(keys).flatten().to(losses.dtype).to(losses.device, non_blocking=True)  # [K]
        return len(losses) * torch.softmax(drawn, 0)
