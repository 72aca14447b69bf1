"""State by row NAME, gathered into a vector for a formula and scattered back. Absent rows keep their values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST_LOSS, LARGEST_LOSS = 1e-6, 1e30

Table = dict[str, Tensor]  # row name -> scalar


def bounded(losses: Tensor) -> Tensor:
    """Return the losses [K] clamped to where logarithms and quotients are safe.

    A loss below 1e-6, such as a negative one in dB, counts as 1e-6.
    """
    return losses.clamp(SMALLEST_LOSS, LARGEST_LOSS)


def gather(table: Table, rows: Sequence[str], start: Tensor) -> Tensor:
    """Return the table's scalar of each row [K], or the entry of `start` [K] for a row not seen before."""
    found = [table[row].to(start) if row in table else start[i] for i, row in enumerate(rows)]
    return torch.stack(found)


def scatter(table: Table, rows: Sequence[str], values: Tensor) -> None:
    """Store the values [K] under the rows' names."""
    table.update(zip(rows, values.unbind(), strict=True))


def on_device_of(values: Sequence[float], like: Tensor) -> Tensor:
    """Return host numbers as a tensor [K] on the device of `like`, without synchronising with that device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
