"""Choose the photograph, the place and the flip of each training crop. Legend: B samples, P side of a crop."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from cmtl_ir.base import keyed

Flips = Literal["dihedral", "horizontal", "none"]
KINDS = {"dihedral": 8, "horizontal": 2, "none": 1}
MIRROR, UPSIDE_DOWN, TRANSPOSE = 1, 2, 4
"""Bits of a flip, applied from the last to the first."""
BLOCK = 1024
"""Number of samples in a block, approximately: epochs of small data sets are shuffled together in blocks."""


@dataclass(frozen=True)
class Cut:
    """The geometry of one batch, drawn on the CPU, which determines the bytes to read."""

    numbers: Tensor  # [B] int64 number of the image
    corner: Tensor  # [B, 2] int64 upper left corner (y, x) in the stored image
    flips: Tensor  # [B] int64 bits
    origin: Tensor  # [B, 2] int64 the same corner in the flipped photograph
    size: Tensor  # [B, 2] int64 height and width of the flipped photograph


def image_numbers(base: int, ids: Tensor, count: int) -> Tensor:
    """Map ids [B] to image numbers [B]. Each epoch of `count` ids is a keyed permutation with every image once."""
    epochs = max(1, BLOCK // count)
    blocks, places = ids // (epochs * count), ids % (epochs * count)
    numbers = torch.empty_like(places)
    for block in blocks.unique().tolist():
        here = blocks == block
        numbers[here] = _orders(base, block * epochs, epochs, count)[places[here]]
    return numbers


@lru_cache(maxsize=64)
def _orders(base: int, first: int, epochs: int, count: int) -> Tensor:
    """Return the permutations of some epochs, [epochs * count], each from sorting the hashes of its images."""
    keys = keyed.keys_of(base, torch.arange(first, first + epochs))
    return keyed.bits(keys, count).argsort(dim=1, stable=True).flatten()


def draw_cut(keys: Tensor, numbers: Tensor, size: Tensor, patch: int, flips: Flips) -> Cut:
    """Draw where to cut crops of patch x patch: keys [B], image numbers [B] and their sizes [B, 2] -> Cut.

    A degradation is applied after the flip and sees the flipped photograph, so that rain falls downwards in it. The
    origin of the crop and the size are therefore those in the flipped photograph.
    """
    drawn = keyed.integers(keyed.substream(keys, "cut"), 0, 1 << 31, (3,))  # [B, 3]
    corner = drawn[:, :2] % (size - patch + 1)
    flip = drawn[:, 2] % KINDS[flips]
    transposed = ((flip & TRANSPOSE) > 0)[:, None]
    turned, turned_size = (torch.where(transposed, one.flip(1), one) for one in (corner, size))
    mirrored = torch.stack([flip & UPSIDE_DOWN, flip & MIRROR], dim=1) > 0
    origin = torch.where(mirrored, turned_size - patch - turned, turned)
    return Cut(numbers, corner, flip, origin, turned_size)


def copy_crop(pixels: Tensor, start: int, row: int, flip: int, out: Tensor) -> None:
    """Copy a crop into `out` [3, P, P]: transposed, then upside down, then mirrored, as the bits of `flip` say.

    `start` is its first byte in the flat HWC pixels, and `row` the number of bytes of an image row.
    """
    strides = (1, 3, row) if flip & TRANSPOSE else (1, row, 3)
    view = pixels.as_strided(out.shape, strides, start)
    axes = [axis for axis, bit in ((1, UPSIDE_DOWN), (2, MIRROR)) if flip & bit]
    out.copy_(view.flip(axes) if axes else view)


def unit(pixels: Tensor) -> Tensor:
    """Convert uint8 of any layout to contiguous float32 in [0, 1], with the same bits on every device."""
    return pixels.contiguous().to(torch.float32).div_(255.0)
