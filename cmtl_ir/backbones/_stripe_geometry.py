"""Where GRL's windows, stripes and anchors are. Shapes: N stripes of T pixels, each with A anchors; P offsets.

An anchor represents `factor` x `factor` pixels. Tensors that do not depend on a sample have a leading dimension of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FORBIDDEN = -100.0  # what the mask adds to a score
LARGEST = 8.0  # the scaled offset of the farthest pixel
SCALE = 3.0  # log2 of `LARGEST`


class Geometry(NamedTuple):
    """One way to cut a map, and what attention inside its pieces needs."""

    size: tuple[int, int]
    anchor_size: tuple[int, int]
    shift: tuple[int, int]
    anchor_shift: tuple[int, int]
    table: Tensor  # [1, P, 2], scaled offsets
    to_anchors: Tensor  # [1, T, A], which offset a pixel has to an anchor
    from_anchors: Tensor  # [1, A, T]
    mask: tuple[Tensor, Tensor] | None  # labels of pixels [N, T] and anchors [N, A]; None if nothing is shifted


def cut(x: Tensor, size: tuple[int, int]) -> Tensor:  # [B, H, W, C] -> [B, N, T, C]
    """Cut maps into pieces of one size, row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size[0], size[0], width // size[1], size[1], channels)
    return x.transpose(2, 3).reshape(batch, -1, size[0] * size[1], channels)


def paste(pieces: Tensor, shape: Sequence[int], size: tuple[int, int]) -> Tensor:  # [B, N, T, C] -> [B, H, W, C]
    """Put pieces back in their places in a map of `shape` [B, H, W]."""
    batch, height, width = shape
    x = pieces.reshape(batch, height // size[0], width // size[1], *size, pieces.shape[-1])
    return x.transpose(2, 3).reshape(batch, height, width, pieces.shape[-1])


def geometry(
    sides: tuple[int, int], size: tuple[int, int], shift: tuple[int, int], factor: int, like: Tensor
) -> Geometry:
    """Pieces of `size` of a map with these sides, rolled by `shift`; tensors in the dtype and on the device of `like`.

    `factor` 1: every pixel is its own anchor, as in window attention.
    """
    anchor_size, anchor_shift = (size[0] // factor, size[1] // factor), (shift[0] // factor, shift[1] // factor)
    axes = [_offsets(one, anchors, like) for one, anchors in zip(size, anchor_size, strict=True)]
    table = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=2).flatten(0, 1)[None]
    columns = size[1] + anchor_size[1] - 1
    pixels, anchors = _places(size, like.device), _places(anchor_size, like.device)
    back = pixels[:, None] - anchors + torch.tensor(anchor_size, device=like.device) - 1  # [T, A, 2]
    forth = anchors[:, None] - pixels + torch.tensor(size, device=like.device) - 1  # [A, T, 2]
    mask = None
    if any(shift):
        anchor_sides = (sides[0] // factor, sides[1] // factor)
        mask = (
            _labels(sides, size, shift, like.device),
            _labels(anchor_sides, anchor_size, anchor_shift, like.device),
        )
    return Geometry(
        size, anchor_size, shift, anchor_shift, table,
        (back[..., 0] * columns + back[..., 1])[None], (forth[..., 0] * columns + forth[..., 1])[None], mask,
    )  # fmt: skip


def forbidden(queries: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:  # [N, Q], [N, K] -> [N, 1, Q, K]
    """What to add to the scores, so that pixels from both sides of the map's border do not meet."""
    return FORBIDDEN * (queries[:, None, :, None] != keys[:, None, None]).to(dtype)


def _offsets(pixels: int, anchors: int, like: Tensor) -> Tensor:
    """Every offset along one axis between a pixel and an anchor, on a logarithmic scale."""
    middle = (pixels - anchors) // 2
    offsets = torch.arange(1 - anchors - middle, pixels - middle, dtype=like.dtype, device=like.device)
    scaled = offsets / max(1, pixels - 1 - middle) * LARGEST
    return scaled.sign() * torch.log2(scaled.abs() + 1) / SCALE


def _places(size: tuple[int, int], device: torch.device) -> Tensor:  # [T, 2]
    """Row and column of every pixel of a piece."""
    axes = [torch.arange(one, device=device) for one in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=2).flatten(0, 1)


def _labels(sides: tuple[int, int], size: tuple[int, int], shift: tuple[int, int], device: torch.device) -> Tensor:
    """[N, T]: in the rolled map, regions that were no neighbours before have different labels."""

    def region(axis: int) -> Tensor:
        place = torch.arange(sides[axis], device=device)
        return (place >= sides[axis] - size[axis]).long() + (place >= sides[axis] - shift[axis]).long()

    regions = 3 * region(0)[:, None] + region(1)
    return cut(regions[None, :, :, None], size)[0, :, :, 0]
