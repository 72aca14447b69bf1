"""Gaussian blur."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import field_validator
from torch import Tensor

from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._filters import convolve, grid_of, normalised
from cmtl_ir.tasks.degradations._graded import Graded, drawn, drawn_whole
from cmtl_ir.tasks.degradations._limits import Range, Whole, within


@register
class GaussianBlur(Graded):
    """Isotropic Gaussian cut to a window of odd size (MiOIR, Kong et al. 2024). Borders are reflected."""

    severities: ClassVar = {
        "sigma": ((1, 1), (2, 2), (3, 3), (4, 4), (6, 6)),
        "window": ((7, 7), (13, 13), (19, 19), (25, 25), (37, 37)),
    }

    sigma: Annotated[Range, within(0, 100, above=True)] = (1.0, 3.0)
    """Standard deviation in pixels (MiOIR: 1 to 3; its hard test 3 to 5)."""
    window: Annotated[Whole, within(1, 255)] = (7, 21)
    """Size of the kernel, odd sizes only (MiOIR: 7 to 21)."""

    @field_validator("window")
    @classmethod
    def _holds_an_odd_size(cls, window: tuple[int, int]) -> tuple[int, int]:
        if window[0] == window[1] and window[0] % 2 == 0:
            raise ValueError(f"{list(window)} holds no odd size; write [{window[0] - 1}, {window[0] + 1}]")
        return window

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        halves = (self.window[0] // 2, (self.window[1] - 1) // 2)
        return {
            "sigma": drawn(keys, "sigma", self.sigma),
            "window": drawn_whole(keys, "window", halves) * 2 + 1,
        }

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        return convolve(clean, self.kernels(parameters)).clamp_(0, 1)

    def kernels(self, parameters: dict[str, Tensor]) -> Tensor:
        """Return Gaussian kernels [B, k, k], each with sum 1."""
        sigma, window = (parameters[name][:, None, None] for name in ("sigma", "window"))
        y, x = grid_of((self.window[1] - 1) // 2 * 2 + 1, sigma.device)
        inside = torch.maximum(y.abs(), x.abs()) <= window // 2
        return normalised(torch.exp((y * y + x * x) / (sigma * sigma * -2)) * inside)
