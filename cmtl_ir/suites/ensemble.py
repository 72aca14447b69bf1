"""Self-ensembling: the mean answer over the eight symmetries of the square (Timofte et al., CVPR 2016)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SYMMETRIES = tuple((turns, flip) for flip in (False, True) for turns in range(4))
"""Quarter turns, and whether the columns are reversed first."""


def turned(images: Tensor, turns: int, flip: bool) -> Tensor:
    """Return images [B, 3, H, W] under one symmetry; an odd number of turns exchanges height and width."""
    return torch.rot90(images.flip(-1) if flip else images, turns, (-2, -1))


def turned_back(images: Tensor, turns: int, flip: bool) -> Tensor:
    """Return images under the inverse of a symmetry."""
    upright = torch.rot90(images, -turns, (-2, -1))
    return upright.flip(-1) if flip else upright


def self_ensemble(restore: Callable[[Tensor], Tensor], degraded: Tensor) -> Tensor:
    """Return the mean of T^-1 restore(T x) over the eight symmetries T, [B, 3, H, W]. It costs eight passes."""
    views = [turned_back(restore(turned(degraded, *one).contiguous()), *one) for one in SYMMETRIES]
    return torch.stack(views).mean(0)
