"""Snow."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cmtl_ir.base.keyed import substream
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._cells import Cell, near_cells
from cmtl_ir.tasks.degradations._graded import Graded, drawn
from cmtl_ir.tasks.degradations._limits import Range, Share, within

LAYERS = ((8, 0.16), (16, 0.17), (40, 0.2))
"""Cell size in pixels and the largest flake as a share of it: far, middle and near flakes."""


@register
class Snow(Graded):
    """Flakes composited over the image, I (1 - m) + m (Snow100K, Liu et al., TIP 2018; own masks).

    There are three layers of soft elliptic flakes, stretched along the wind. Near flakes are larger and more
    transparent. Flakes are a function of the pixels of the full image: overlapping crops see the same. No borders are
    involved.
    """

    severities: ClassVar = {"density": ((0.15, 0.15), (0.3, 0.3), (0.5, 0.5), (0.75, 0.75), (1.0, 1.0))}

    density: Share = (0.2, 0.8)
    """Probability that a cell has a flake (ours)."""
    opacity: Share = (0.6, 1.0)
    """Opacity of the middle of a flake (ours)."""
    stretch: Annotated[Range, within(0, 20, above=True)] = (1.0, 2.5)
    """Ratio of length to width of a flake (ours; ImageNet-C smears by 10 to 12 px)."""
    wind: Annotated[Range, within(-180, 180)] = (-45, 45)
    """Direction of the fall relative to the vertical, in degrees (ImageNet-C: -45 to 45)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {name: drawn(keys, name, getattr(self, name)) for name in ("density", "opacity", "stretch", "wind")}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        bare = torch.ones(len(clean), *clean.shape[2:], device=clean.device)  # 1 - m
        for spacing, largest in LAYERS:
            key = substream(keys, spacing)
            for cell in near_cells(key, origin, (clean.shape[2], clean.shape[3]), spacing, 4):
                bare *= 1 - self._flake(cell, parameters, spacing, largest)
        return (1 - (1 - clean) * bare[:, None]).clamp_(0, 1)

    @staticmethod
    def _flake(cell: Cell, parameters: dict[str, Tensor], spacing: int, largest: float) -> Tensor:
        """Return the share of each pixel that the flake of one near cell hides: [B, h, w]."""
        here, down, right, extent = cell.numbers
        density, opacity, stretch, wind = (
            parameters[name][:, None, None] for name in ("density", "opacity", "stretch", "wind")
        )
        y, x = cell.y - (down - 0.5) * spacing, cell.x - (right - 0.5) * spacing
        cosine, sine = torch.cos(wind * (math.pi / 180)), torch.sin(wind * (math.pi / 180))
        along, across = (y * cosine + x * sine) / stretch, x * cosine - y * sine
        radius = (extent * 0.6 + 0.4) * (largest * spacing)
        distance = torch.sqrt(along * along + across * across) / radius  # 1 at the edge
        soft = (1.5 - distance * 1.5).clamp(0, 1)
        return soft * (here < density) * (opacity * (1 - spacing / 100))
