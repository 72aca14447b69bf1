"""Structural similarity that can be differentiated. Shapes: images x, y [B, C, H, W] in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base.errors import UserError

SIDE = 11
"""Side of the Gaussian window, of standard deviation 1.5."""
C1, C2 = 0.01**2, 0.03**2


def window(like: Tensor) -> Tensor:
    """Return the one-dimensional Gaussian window [SIDE], which sums to 1."""
    place = torch.arange(SIDE, dtype=like.dtype, device=like.device) - SIDE // 2
    return torch.softmax(-(place**2) / (2 * 1.5**2), 0)


def similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means over windows inside the image of SSIM and of its contrast-structure term, [B, C] each.

    Raise UserError where the images are smaller than the window.
    """
    if min(x.shape[-2:]) < SIDE:
        raise UserError(f"SSIM needs images of {SIDE} pixels or more per side, found {list(x.shape[-2:])}")
    kernel, channels = window(x), x.shape[1]
    moments = torch.cat([x, y, x * x, y * y, x * y], 1)
    for shape in ((1, 1, SIDE, 1), (1, 1, 1, SIDE)):
        moments = F.conv2d(moments, kernel.view(shape).expand(5 * channels, *shape[1:]), groups=5 * channels)
    mean_x, mean_y, xx, yy, xy = moments.chunk(5, 1)
    variances = xx - mean_x**2 + yy - mean_y**2
    structure = (2 * (xy - mean_x * mean_y) + C2) / (variances + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (luminance * structure).mean((2, 3)), structure.mean((2, 3))
