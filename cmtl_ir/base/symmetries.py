"""The eight symmetries of the square. Shapes: images [B, C, H, W]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SYMMETRIES = 8
"""Rotations by 0, 90, 180 and 270 degrees, each without and with a flip."""


def turned(image: Tensor, number: int) -> Tensor:
    """Return T_j of images [B, C, H, W] for j in 0 .. 7; j = 0 is the identity. Odd j exchange H and W."""
    flipped = image.flip(3) if number >= 4 else image
    return flipped.rot90(number % 4, (2, 3)).contiguous(memory_format=torch.channels_last)


def turned_back(image: Tensor, number: int) -> Tensor:
    """Return T_j^-1 of images [B, C, H, W]."""
    straight = image.rot90(-(number % 4), (2, 3))
    return straight.flip(3) if number >= 4 else straight


def mean_of_views(answer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Return the mean of T_j^-1 f(T_j x) over the eight symmetries, for f = `answer` and images x [B, C, H, W].

    This is self-ensembling (Timofte et al., CVPR 2016). It costs eight passes.
    """
    total = torch.zeros_like(image)
    for number in range(SYMMETRIES):
        total = total + turned_back(answer(turned(image, number)), number)
    return total / SYMMETRIES
