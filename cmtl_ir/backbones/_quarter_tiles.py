"""IPT's tiling: an image of any size from a network that takes S x S pixels only. Shapes: B images, K tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

TILES = 64
"""Tiles of all images that pass the network at once."""


class Axis(NamedTuple):
    """Where the tiles of one side start, and how much each counts at each place of the output."""

    starts: list[int]
    weights: list[list[float]]  # [tile][place within the tile's output]
    alone_from: int  # first output place that only the last tile covers


def axis_of(length: int, size: int, scale: int) -> Axis:
    """Tiles of `size` on a side of `length` >= size: at every quarter of a tile, and one that ends with the side.

    Near its border a tile does not count. Where several count, they count alike.
    """
    step = size // 4
    regular, rest = (length - size) // step + 1, (length - size) % step
    covered = length - rest
    alone_from = scale * covered - int(scale * (size - rest) / 2)
    starts = [*(i * step for i in range(regular - (rest == 0))), length - size]  # a side without rest has no extra tile
    weights = [[0.0] * (scale * size) for _ in starts]
    for q in range(scale * length):
        if q >= alone_from:
            counting = [len(starts) - 1]
        elif q < scale * step:
            counting = [0]
        elif q >= scale * (covered - step):
            counting = [regular - 1]
        else:
            inside = range(regular)
            counting = [i for i in inside if scale * (i + 1) * step <= q < scale * (i * step + size - step)]
        for tile in counting:
            weights[tile][q - scale * starts[tile]] = 1 / len(counting)
    return Axis(starts, weights, alone_from)


def tiled(network: Callable[[Tensor, int], Tensor], x: Tensor, size: int, scale: int) -> Tensor:
    """Return the output [B, C', scale H, scale W] for x [B, C, H, W] with H, W >= size.

    `network` maps tiles [B * K, C, size, size], image after image, and K to [B * K, C', scale size, scale size].
    """
    height, width = x.shape[-2:]
    if height == width == size:
        return network(x, 1)
    rows, columns = axis_of(height, size, scale), axis_of(width, size, scale)
    cut = [x[:, :, top : top + size, left : left + size] for top in rows.starts for left in columns.starts]
    tiles = torch.cat([_through(network, part, len(x)) for part in _parts(cut, len(x))], dim=1)
    tiles = tiles.unflatten(1, (len(rows.starts), len(columns.starts)))  # [B, rows, columns, C', sS, sS]
    strips = _laid(tiles.movedim(2, -1), columns, scale, width)
    y = _laid(strips.transpose(-1, -2).movedim(1, -1), rows, scale, height).transpose(-1, -2)
    # As in the authors' code, only the first tile covers the first quarter of its rows.
    first = slice(scale * (size // 4)), slice(min(scale * size, columns.alone_from))
    y[:, :, first[0], first[1]] = tiles[:, 0, 0, :, first[0], first[1]].to(y.dtype)
    return y


def _parts(tiles: list[Tensor], batch: int) -> list[list[Tensor]]:
    size = max(1, TILES // batch)
    return [tiles[start : start + size] for start in range(0, len(tiles), size)]


def _through(network: Callable[[Tensor, int], Tensor], tiles: list[Tensor], batch: int) -> Tensor:
    """[B, K, C', sS, sS] from K tiles [B, C, S, S]."""
    return network(torch.stack(tiles, dim=1).flatten(0, 1), len(tiles)).unflatten(0, (batch, len(tiles)))


def _laid(tiles: Tensor, axis: Axis, scale: int, length: int) -> Tensor:
    """[.., sS, K] -> [.., scale * length]: every tile in its place along the last dimension, by its weights."""
    y = tiles.new_zeros(*tiles.shape[:-2], scale * length)
    weights = torch.tensor(axis.weights, dtype=tiles.dtype, device=tiles.device)
    for tile, own, start in zip(tiles.unbind(-1), weights, axis.starts, strict=True):
        y[..., scale * start : scale * start + len(own)] += tile * own
    return y
