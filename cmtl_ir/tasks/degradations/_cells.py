"""Objects scattered over the full image, one per grid cell: flakes, drops, strokes. A pixel sees its four near cells.

Legend of shapes: B samples, h x w pixels, N random numbers per cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cmtl_ir.base.keyed import uniform
from cmtl_ir.tasks.degradations._fields import lattice, positions


@dataclass(frozen=True)
class Cell:
    """One near cell as seen from every pixel."""

    y: Tensor  # [B, h, 1] from the cell's centre to the pixel
    x: Tensor  # [B, 1, w]
    numbers: Tensor  # [N, B, h, w] the cell's uniform numbers


def near_cells(keys: Tensor, origin: Tensor, shape: tuple[int, int], spacing: int, count: int) -> Iterator[Cell]:
    """Yield the four cells of spacing x spacing pixels near each pixel, with `count` random numbers per cell.

    An object within `spacing` of the centre of its cell (along y and x) is seen completely, and overlapping crops see
    the same.
    """
    first = origin // spacing - 1  # [B, 2]
    steps = [first[:, axis, None] + torch.arange(shape[axis] // spacing + 4, device=keys.device) for axis in (0, 1)]
    cells = lattice(keys, steps[0], steps[1])  # [B, rows, columns]
    numbers = uniform(cells.flatten(), (count,)).T.reshape(count, *cells.shape)
    sample = torch.arange(len(keys), device=keys.device)[:, None, None]
    y, x = positions(origin, 0, shape[0]), positions(origin, 1, shape[1])
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row = (y - spacing // 2) // spacing + corner[0]
        column = (x - spacing // 2) // spacing + corner[1]
        seen = numbers[:, sample, (row - first[:, :1])[:, :, None], (column - first[:, 1:])[:, None, :]]
        to_y, to_x = (place - cell * spacing - spacing / 2 for place, cell in ((y, row), (x, column)))
        yield Cell(to_y[:, :, None], to_x[:, None, :], seen)
