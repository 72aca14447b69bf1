"""Whether two images show the same, compared as small grey thumbnails: upright, turned or mirrored."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIDE = 16
UPRIGHT = 1
TURNS: dict[int, tuple[bool, tuple[int, ...]]] = {
    1: (False, ()),
    2: (False, (1,)),
    3: (False, (0, 1)),
    4: (False, (0,)),
    5: (True, ()),
    6: (True, (1,)),
    7: (True, (0, 1)),
    8: (True, (0,)),
}
"""EXIF orientation -> (transpose first, then the axes that are reversed), which makes the stored pixels upright."""
BACK = {6: 8, 8: 6}
"""Orientation -> the one that undoes it; the others undo themselves."""
SURE, MARGIN = 0.9, 0.1
"""An image is taken for turned if turning it correlates it with its partner above SURE, and by MARGIN more."""


def thumbnail(image: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] -> [256] grey, of mean 0 and norm 1 (0 where the image is flat): products are correlations."""
    step = max(1, min(image.shape[:2]) // 128)
    grey = torch.from_numpy(image[::step, ::step].astype(np.float32)).mean(dim=2)  # [h, w]
    small = torch.nn.functional.adaptive_avg_pool2d(grey[None], SIDE).flatten()
    small = small - small.mean()
    return small / small.norm().clamp(min=1e-3)


def turned(small: Tensor, orientation: int) -> Tensor:
    """A thumbnail [256] of stored pixels -> that of the upright image."""
    transpose, axes = TURNS[orientation]
    square = small.view(SIDE, SIDE)
    return (square.T if transpose else square).flip(axes).flatten()


def stored(small: Tensor, orientation: int) -> Tensor:
    """A thumbnail [256] of an upright image -> that of the pixels as its file stores them."""
    return turned(small, BACK.get(orientation, orientation))


def tag_misleads(one: Tensor, other: Tensor, orientations: tuple[int, int]) -> bool:
    """Whether the thumbnails of two upright images are less alike than the pixels that their files store."""
    if orientations[0] == orientations[1]:
        return False
    as_stored = stored(one, orientations[0]) @ stored(other, orientations[1])
    return bool(as_stored > one @ other)


def turn_between(one: Tensor, other: Tensor) -> int | None:
    """The orientation in which one thumbnail is like the other; `None` if they are alike as they are, or never."""
    alike = {orientation: float(turned(one, orientation) @ other) for orientation in TURNS}
    best = max(alike, key=lambda orientation: alike[orientation])
    return best if alike[best] > max(SURE, alike[UPRIGHT] + MARGIN) else None
