"""Structural dissimilarity."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ._similarity import similarity


@register
class Ssim(Objective):
    """1 - SSIM (Wang et al., IEEE TIP 2004, Eq. 13): Gaussian window of 11 pixels, sigma 1.5, mean over channels.

    The window stays inside the image, and covariances are those of the population. Images need 11 pixels per side.
    """

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        found, _ = similarity(output.restored.float(), batch.clean.float())
        return 1.0 - found.mean(1)
