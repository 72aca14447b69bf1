"""Structural dissimilarity on several scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

from ._similarity import SIDE, similarity

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SMALLEST = 1e-6
"""Terms below it are raised to it: a root of a negative number does not exist, and at 0 its slope is infinite."""


@register
class MsSsim(Objective):
    """1 - MS-SSIM (Wang, Simoncelli and Bovik, Asilomar 2003, Eq. 7): SSIM over scales that are halved by averaging.

    Contrast and structure count on every scale, luminance on the coarsest alone. Five scales need images of 176 pixels
    per side; with fewer scales the published exponents of the finest ones are divided by their sum [ours].
    """

    scales: int = Field(5, ge=1, le=5)
    """Number of scales; a training patch of P pixels allows 1 + floor(log2(P / 11)) of them."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        x, y = output.restored.float(), batch.clean.float()
        if min(x.shape[-2:]) < SIDE << (self.scales - 1):
            fitting = [n for n in range(1, 6) if min(x.shape[-2:]) >= SIDE << (n - 1)]
            raise UserError(
                f"ms_ssim: {self.scales} scales need images of {SIDE << (self.scales - 1)} pixels per side, found "
                f"{list(x.shape[-2:])}; set scales to {max(fitting, default=0)} or data.patch to more"
            )
        return 1.0 - multiscale(x, y, self.scales)


def multiscale(x: Tensor, y: Tensor, scales: int) -> Tensor:
    """Return MS-SSIM of images [B, C, H, W] in [0, 1], the mean over channels, [B]."""
    exponents = torch.tensor(EXPONENTS[:scales], dtype=x.dtype, device=x.device)
    if scales < len(EXPONENTS):  # the published ones sum to 1.0001
        exponents = exponents / exponents.sum()
    terms = []
    for scale in range(scales):
        whole, structure = similarity(x, y)  # [B, C] each
        terms.append(whole if scale == scales - 1 else structure)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    powers = torch.stack(terms, -1).clamp_min(SMALLEST) ** exponents  # [B, C, scales]
    return powers.prod(-1).mean(1)
