"""Distance in a feature space without a negative."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ._contrast import ImageContrast


@register
class Perceptual(ImageContrast):
    """Perceptual loss (Johnson et al., ECCV 2016, Sec. 3.2) with absolute differences: sum_l w_l d(f, y).

    It equals `cr` with `form: numerator`, and is the control of every contrast: what a contrast gains beyond it is due
    to the negatives.
    """

    weight: float = Field(3.0, ge=0)
    """w: factor of this objective next to the base objective."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        return self.space.total(self.numerator(self.maps(output.restored, batch.task), batch))
