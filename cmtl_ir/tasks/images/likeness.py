"""Compare images as small grey thumbnails, also turned or mirrored ones."""

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
"""EXIF orientation -> (whether to transpose, axes to reverse afterwards), which makes the stored pixels upright."""
BACK = {6: 8, 8: 6}
"""Orientation -> the orientation that undoes it. All others undo themselves."""
SURE, MARGIN = 0.9, 0.1
"""An image counts as turned if its correlation with its partner exceeds SURE, and grows by MARGIN, when turned."""


def thumbnail(image: NDArray[np.uint8]) -> Tensor:
    """Reduce [H, W, 3] to grey [256] of mean 0 and norm 1 (0 for a flat image): inner products are correlations."""
    step = max(1, min(image.shape[:2]) // 128)
    grey = torch.from_numpy(image[::step, ::step].astype(np.float32)).mean(dim=2)  # [h, w]
    small = torch.nn.functional.adaptive_avg_pool2d(grey[None], SIDE).flatten()
    small = small - small.mean()
    return small / small.norm().clamp(min=1e-3)


def turned(small: Tensor, orientation: int) -> Tensor:
    """Turn the thumbnail [256] of stored pixels into the thumbnail of the upright image."""
    transpose, axes = TURNS[orientation]
    square = small.view(SIDE, SIDE)
    return (square.T if transpose else square).flip(axes).flatten()


def stored(small: Tensor, orientation: int) -> Tensor:
    """Turn the thumbnail [256] of an upright image into the thumbnail of the pixels that its file stores."""
    return turned(small, BACK.get(orientation, orientation))


def tag_misleads(one: Tensor, other: Tensor, orientations: tuple[int, int]) -> bool:
    """Whether two images are more similar as their files store them than after their EXIF orientations are applied."""
    if orientations[0] == orientations[1]:
        return False
    as_stored = stored(one, orientations[0]) @ stored(other, orientations[1])
    return bool(as_stored > one @ other)


def turn_between(one: Tensor, other: Tensor) -> int | None:
    """Return the orientation that makes one thumbnail similar to `other`, or `None` if none is needed or helps."""
    alike = {orientation: float(turned(one, orientation) @ other) for orientation in TURNS}
    best = max(alike, key=lambda orientation: alike[orientation])
    return best if alike[best] > max(SURE, alike[UPRIGHT] + MARGIN) else None
