"""Raindrops on the lens or a window."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cmtl_ir.base.keyed import substream
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._cells import near_cells
from cmtl_ir.tasks.degradations._fields import positions
from cmtl_ir.tasks.degradations._filters import padded
from cmtl_ir.tasks.degradations._graded import Graded, drawn
from cmtl_ir.tasks.degradations._limits import Range, Share, within

LAYERS = (24, 60)
"""Cell sizes in pixels: small and large drops."""


@register
class Raindrop(Graded):
    """Drops that show the scene upside down, smaller and blurred (the setting of Qian et al., CVPR 2018; our recipe).

    The place of a drop depends only on the pixels of the full image. Its content is taken from the crop, reflected at
    the borders, so overlapping crops agree exactly outside drops and approximately inside.
    """

    severities: ClassVar = {"density": ((0.1, 0.1), (0.25, 0.25), (0.45, 0.45), (0.7, 0.7), (1.0, 1.0))}

    density: Share = (0.2, 0.7)
    """Probability that a cell has a drop (ours)."""
    minify: Annotated[Range, within(1, 50)] = (1.5, 3.0)
    """Factor by which the scene appears smaller in a drop (ours)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {name: drawn(keys, name, getattr(self, name)) for name in ("density", "minify")}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        height, width = clean.shape[2:]
        cover, to_y, to_x, radius = self.drops(keys, parameters["density"], origin, (height, width))
        beyond = parameters["minify"][:, None, None] + 1
        y = positions(origin, 0, height)[:, :, None] - origin[:, :1, None] - to_y * beyond
        x = positions(origin, 1, width)[:, None, :] - origin[:, 1:, None] - to_x * beyond
        places = torch.stack([(x * 2 + 1) / width - 1, (y * 2 + 1) / height - 1], 3)  # [B, h, w, 2]
        blurred = F.avg_pool2d(padded(clean, 3), 7, stride=1)
        seen = F.grid_sample(blurred, places, padding_mode="reflection", align_corners=False)
        shading = 1.05 + 0.35 * to_y / radius  # darker above, brighter below: the sky is upside down
        return torch.lerp(clean, (seen * shading[:, None]).clamp_(0, 1), cover[:, None]).clamp_(0, 1)

    @staticmethod
    def drops(
        keys: Tensor, density: Tensor, origin: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return cover in [0, 1], y and x from the centre, and radius, [B, h, w] each, of the drop that covers most."""
        best = [torch.zeros(len(keys), *shape, device=keys.device) for _ in range(3)]
        best.append(torch.ones_like(best[0]))
        for spacing in LAYERS:
            for cell in near_cells(substream(keys, spacing), origin, shape, spacing, 6):
                here, down, right, extent, oval, lean = cell.numbers
                y, x = cell.y - (down - 0.5) * spacing, cell.x - (right - 0.5) * spacing
                radius = (extent * 0.5 + 0.5) * (0.36 * spacing)
                skewed = x + y * (lean - 0.5) * 0.5
                distance = torch.sqrt(y * y + skewed * skewed * (oval * 0.7 + 0.8))
                cover = ((radius - distance) / 2).clamp(0, 1) * (here < density[:, None, None])
                best = [
                    torch.where(cover > best[0], new, old) for new, old in zip((cover, y, x, radius), best, strict=True)
                ]
        return best[0], best[1], best[2], best[3]
