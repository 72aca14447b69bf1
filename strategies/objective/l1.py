"""Mean absolute error."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class L1(Objective):
    """Mean absolute error over pixels and channels, in units of the image's range [0, 1]."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        return (output.restored.float() - batch.clean).abs().mean((1, 2, 3))
