"""Which photograph a training crop comes from, where it is cut and how it is flipped. Legend: B samples, P side."""

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
"""Bits of a flip; applied from the last to the first."""
BLOCK = 1024
"""Epochs of small data sets are shuffled together, until a block has about this many samples."""


@dataclass(frozen=True)
class Cut:
    """The geometry of one batch, drawn on the CPU: it says which bytes to read."""

    numbers: Tensor  # [B] int64 which image
    corner: Tensor  # [B, 2] int64 upper left corner (y, x) in the stored image
    flips: Tensor  # [B] int64 bits
    origin: Tensor  # [B, 2] int64 that corner in the flipped photograph
    size: Tensor  # [B, 2] int64 height and width of the flipped photograph


def image_numbers(base: int, ids: Tensor, count: int) -> Tensor:
    """ids [B] -> image numbers [B]: each epoch of `count` ids is a keyed permutation, so every image comes once."""
    epochs = max(1, BLOCK // count)
    blocks, places = ids // (epochs * count), ids % (epochs * count)
    numbers = torch.empty_like(places)
    for block in blocks.unique().tolist():
        here = blocks == block
        numbers[here] = _orders(base, block * epochs, epochs, count)[places[here]]
    return numbers


@lru_cache(maxsize=64)
def _orders(base: int, first: int, epochs: int, count: int) -> Tensor:
    """[epochs * count]: the permutations of some epochs, each by sorting the hashes of its images."""
    keys = keyed.keys_of(base, torch.arange(first, first + epochs))
    return keyed.bits(keys, count).argsort(dim=1, stable=True).flatten()


def draw_cut(keys: Tensor, numbers: Tensor, size: Tensor, patch: int, flips: Flips) -> Cut:
    """keys [B], image numbers [B] and their sizes [B, 2] -> where to cut crops of patch x patch.

    A degradation is applied after the flip and is told of the flipped photograph: rain falls downwards on it, and
    its crop's origin and size are those that it has there.
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
    """out [3, P, P] <- the crop at byte `start` of flat HWC pixels whose image rows have `row` bytes; transposed,
    then turned upside down, then mirrored, as the bits of `flip` say."""
    strides = (1, 3, row) if flip & TRANSPOSE else (1, row, 3)
    view = pixels.as_strided(out.shape, strides, start)
    axes = [axis for axis, bit in ((1, UPSIDE_DOWN), (2, MIRROR)) if flip & bit]
    out.copy_(view.flip(axes) if axes else view)


def unit(pixels: Tensor) -> Tensor:
    """uint8 of any layout -> contiguous float32 in [0, 1]; the same bits on every device."""
    return pixels.contiguous().to(torch.float32).div_(255.0)
