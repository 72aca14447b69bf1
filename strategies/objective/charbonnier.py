"""A smooth mean absolute error."""

from __future__ import annotations

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

SQUARED_EPSILON = 1e-6


@register
class Charbonnier(Objective):
    """Mean of sqrt(e^2 + 1e-6) over pixels and channels (Charbonnier et al., ICIP 1994; epsilon 1e-3 as in MPRNet)."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        error = output.restored.float() - batch.clean
        return torch.sqrt(error.square() + SQUARED_EPSILON).mean((1, 2, 3))
