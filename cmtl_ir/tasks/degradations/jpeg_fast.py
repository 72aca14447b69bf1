"""JPEG compression as tensor operations."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._filters import gathered, to_grid
from cmtl_ir.tasks.degradations._graded import Graded, drawn_whole
from cmtl_ir.tasks.degradations._limits import Whole, within
from cmtl_ir.tasks.degradations.jpeg import Jpeg

# The tables of the standard (ITU-T T.81, Annex K.1 and K.2), at quality 50.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29),
    *(51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121),
    *(120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99),
    *(99,) * 36,
)


@register
class JpegFast(Graded):
    """JPEG with colour at half resolution, batched on the device (the DiffJPEG idea, here without gradients).

    It differs from `jpeg` by 0.4 to 0.7 grey levels per pixel on average, and by less than 0.1 dB of input PSNR. Use
    `jpeg` for tables. Blocks are placed on the grid of the full image, and missing pixels are reflected.
    """

    severities: ClassVar = Jpeg.severities

    quality: Annotated[Whole, within(1, 100)] = (30, 70)
    """Quality (MiOIR: 30 to 70, hard test 10 to 30)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"quality": drawn_whole(keys, "quality", self.quality)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        laid, rows, columns = to_grid(clean, origin, 16)
        red, green, blue = (laid * 255).round_().unbind(1)
        luma = red * 0.299 + green * 0.587 + blue * 0.114
        chroma = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)  # [B, 2, h, w], around 0
        halved = F.avg_pool2d(chroma, 2).round_()
        luma = coded(luma[:, None].round() - 128, tables(LUMINANCE, parameters["quality"]))[:, 0] + 128
        halved = coded(halved, tables(CHROMINANCE, parameters["quality"]))
        cb, cr = F.interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False).unbind(1)
        colours = [luma + cr * 1.402, luma - cb * 0.344136 - cr * 0.714136, luma + cb * 1.772]
        return gathered(torch.stack(colours, 1), rows, columns).round_().clamp_(0, 255) / 255


def tables(base: tuple[int, ...], quality: Tensor) -> Tensor:
    """Return the quantisation steps of qualities [B], scaled as in libjpeg: [8, 8, B, 1, 1, 1]."""
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    table = torch.tensor(base, dtype=torch.float32, device=quality.device).view(8, 8, 1)
    return ((table * scale + 50) / 100).floor_().clamp_(1, 255)[..., None, None, None]


def coded(plane: Tensor, steps: Tensor) -> Tensor:
    """Transform, quantise and transform back [B, C, h, w], where h and w are multiples of 8."""
    batch, channels, height, width = plane.shape
    blocks = plane.view(batch, channels, height // 8, 8, width // 8, 8).permute(3, 5, 0, 1, 2, 4)
    basis = _basis(plane.device)  # [8, 8]
    frequencies = _transformed(blocks.contiguous(), basis)  # [8, 8, B, C, h/8, w/8]
    restored = _transformed((frequencies / steps).round_() * steps, basis.T)
    rounded = restored.round_().clamp_(-128, 127)
    return rounded.permute(2, 3, 4, 0, 5, 1).reshape(batch, channels, height, width)


def _transformed(blocks: Tensor, basis: Tensor) -> Tensor:
    """Return basis @ block @ basis.T on the first two axes, in a fixed order of sums (that of a product may vary)."""
    columns = [column.reshape(8, 1, 1, 1, 1) for column in basis.unbind(1)]
    rows = columns[0][:, None] * blocks[0]  # [8, 8, B, C, h/8, w/8]
    for k in range(1, 8):
        rows += columns[k][:, None] * blocks[k]
    result = columns[0] * rows[:, :1]
    for k in range(1, 8):
        result += columns[k] * rows[:, k : k + 1]
    return result


def _basis(device: torch.device) -> Tensor:
    """Return the orthonormal DCT-II matrix [frequency, position]."""
    k = torch.arange(8, dtype=torch.float64)
    basis = torch.cos((2 * k + 1) * k[:, None] * (math.pi / 16)) / 2
    basis[0] = math.sqrt(1 / 8)
    return basis.float().to(device)
