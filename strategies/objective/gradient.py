"""Error of the image gradients."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class Gradient(Objective):
    """L1 of finite differences: mean |dx (f - y)| + mean |dy (f - y)|, with forward differences inside the image.

    The anisotropic total variation of the error per pixel. Constant errors cost nothing, so it needs a base objective.
    """

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        error = output.restored.float() - batch.clean
        return error.diff(dim=3).abs().mean((1, 2, 3)) + error.diff(dim=2).abs().mean((1, 2, 3))
