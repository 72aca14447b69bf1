"""Soft margin between the clean and the degraded image."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ..shared.features import distances
from ._contrast import ImageContrast


@register
class DistilContrast(ImageContrast):
    """Contrast of continual restoration (CLAIO, Cheng et al., TMM 2024): softplus(sum_l w_l (d(f, y) - d(f, x)) / t).

    On new samples y is the clean image, and the weight 0.2. On remembered ones y is the answer of the previous network,
    with weight 1: `retention: {name: claio, contrast: 1}`. The authors' features are those of `vgg19`.
    """

    weight: float = Field(0.2, ge=0)
    """w: factor of this objective next to the base objective."""
    temperature: float = Field(0.5, gt=0)
    """t: a margin that is large against it counts as satisfied."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored = self.maps(output.restored, batch.task)
        away = distances(restored, self.constant_maps(batch.degraded, batch.task))
        return F.softplus(self.space.total(self.numerator(restored, batch) - away) / self.temperature)
