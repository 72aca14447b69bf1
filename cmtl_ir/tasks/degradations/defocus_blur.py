"""Defocus blur."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._filters import convolve, grid_of, normalised
from cmtl_ir.tasks.degradations._graded import Graded, drawn
from cmtl_ir.tasks.degradations._limits import Range, within


@register
class DefocusBlur(Graded):
    """A lens out of focus: convolution with a disk whose edge falls off over one pixel. Borders are reflected."""

    severities: ClassVar = {"radius": ((2, 2), (3, 3), (4, 4), (6, 6), (8, 8))}  # ImageNet-C: 3, 4, 6, 8, 10

    radius: Annotated[Range, within(0, 100)] = (2.0, 8.0)
    """Radius of the disk in pixels (ours; ImageNet-C: 3 to 10)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"radius": drawn(keys, "radius", self.radius)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        return convolve(clean, self.kernels(parameters["radius"])).clamp_(0, 1)

    def kernels(self, radius: Tensor) -> Tensor:
        """Return disk kernels of radii [B]: [B, k, k], each with sum 1."""
        y, x = grid_of(2 * math.ceil(self.radius[1] + 0.5) + 1, radius.device)
        distance = torch.sqrt(y * y + x * x)  # [k, k]
        return normalised((radius[:, None, None] + 0.5 - distance).clamp(0, 1))
