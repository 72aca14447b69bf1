"""Error of the Fourier coefficients."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class Frequency(Objective):
    """L1 of real and imaginary parts of the 2-D FFT (Cho et al., MIMO-UNet, ICCV 2021).

    The mean is over both parts, all frequencies and all channels of the full spectrum. Without normalisation, as
    published, its size is about sqrt(H W / 2) times the L1 of independent Gaussian errors.
    """

    weight: float = Field(0.1, ge=0)
    """w: factor of this objective next to the base objective; 0: it is not built. MIMO-UNet has 0.1."""
    norm: Literal["backward", "ortho"] = "backward"
    """backward: plain sums over pixels, as published; ortho: these divided by sqrt(H W)."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        spectrum = torch.fft.fft2(output.restored.float() - batch.clean.float(), norm=self.norm)  # the FFT is linear
        return torch.view_as_real(spectrum).abs().mean((1, 2, 3, 4))
