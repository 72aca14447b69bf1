"""First-order scattering by Haar wavelets: a feature space without weights."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 3
WEIGHTS = (0.25, 0.25, 0.25, 0.25)


def haar(images: Tensor, task: str = "") -> list[Tensor]:  # [B, 3, H, W]
    """Return |LH|, |HL|, |HH| of three levels, [B, 9, h, w] each, and the last LL / 8, [B, 3, h, w].

    On cells a b / c d of 2 x 2 pixels: LH = (a - b + c - d) / 2, HL = (a + b - c - d) / 2, HH = (a - b - c + d) / 2 and
    LL = (a + b + c + d) / 2, which the next level transforms. Sides are cut at the bottom and right to multiples of 8.
    """
    side = 2**LEVELS
    low = images[..., : images.shape[-2] // side * side, : images.shape[-1] // side * side]
    maps = []
    for _ in range(LEVELS):
        low, details = _step(low)
        maps.append(details.abs())
    return [*maps, low / side]


def _step(x: Tensor) -> tuple[Tensor, Tensor]:  # [B, 3, h, w] -> LL [B, 3, h/2, w/2], LH HL HH [B, 9, h/2, w/2]
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    details = torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2
    return (a + b + c + d) / 2, details
