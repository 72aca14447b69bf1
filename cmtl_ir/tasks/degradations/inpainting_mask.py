"""Missing pixels."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cmtl_ir.base.keyed import substream
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._cells import near_cells
from cmtl_ir.tasks.degradations._graded import Graded, drawn
from cmtl_ir.tasks.degradations._limits import Number, Range, Share, within

SPACING = 64
"""Cell size in pixels: a cell holds at most one stroke and one box."""


@register
class InpaintingMask(Graded):
    """Free-form strokes and boxes of one value (Yu et al., ICCV 2019), white as in DA-CLIP (ICLR 2024).

    Strokes are bent lines of two segments. Holes are a function of the pixels of the full image, so overlapping crops
    see the same. Their number per pixel is constant, so crops and images are covered equally. No borders are involved.
    """

    severities: ClassVar = {"density": ((0.15, 0.15), (0.3, 0.3), (0.5, 0.5), (0.75, 0.75), (1.0, 1.0))}

    density: Share = (0.3, 0.9)
    """Probability that a cell of 64 x 64 pixels has a stroke; a box has half this probability (ours)."""
    thickness: Annotated[Range, within(0, 64)] = (4, 12)
    """Thickness of strokes in pixels (ours; Yu et al.: 12 to 40 of 256)."""
    fill: Annotated[Number, within(0, 1)] = 1.0
    """Value of the holes: white (DA-CLIP), 0.5 or 0."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {name: drawn(keys, name, getattr(self, name)) for name in ("density", "thickness")}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        holes = self.holes(keys, parameters, origin, (clean.shape[2], clean.shape[3]))
        return clean.masked_fill(holes, self.fill)

    @staticmethod
    def holes(keys: Tensor, parameters: dict[str, Tensor], origin: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return whether a pixel is missing: [B, 1, h, w] bool."""
        density, thickness = (parameters[name][:, None, None] for name in ("density", "thickness"))
        missing = torch.zeros(len(keys), *shape, dtype=torch.bool, device=keys.device)
        for cell in near_cells(substream(keys, "strokes"), origin, shape, SPACING, 7):
            y = [cell.y - (number - 0.5) * 1.6 * SPACING for number in cell.numbers[:3]]
            x = [cell.x - (number - 0.5) * 1.6 * SPACING for number in cell.numbers[3:6]]
            nearest = torch.minimum(*(to_segment(y[k], x[k], y[k + 1], x[k + 1]) for k in (0, 1)))  # squared
            missing |= (nearest < (thickness / 2).square()) & (cell.numbers[6] < density)
        for cell in near_cells(substream(keys, "boxes"), origin, shape, SPACING, 5):
            down, right, height, width, here = cell.numbers
            inside_y = (cell.y - (down - 0.5) * SPACING).abs() < (height * 0.2 + 0.05) * SPACING
            inside_x = (cell.x - (right - 0.5) * SPACING).abs() < (width * 0.2 + 0.05) * SPACING
            missing |= inside_y & inside_x & (here < density / 2)
        return missing[:, None]


def to_segment(from_y: Tensor, from_x: Tensor, to_y: Tensor, to_x: Tensor) -> Tensor:
    """Return the squared distance of pixels to segments, from the vectors from both ends of a segment to the pixel."""
    along_y, along_x = from_y - to_y, from_x - to_x  # the segment
    share = (from_y * along_y + from_x * along_x) / (along_y * along_y + along_x * along_x)
    share = share.clamp(0, 1)
    return (from_y - share * along_y).square() + (from_x - share * along_x).square()
