"""State by row NAME: gathered into a vector for the formula, scattered back afterwards; absent rows keep theirs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST_LOSS, LARGEST_LOSS = 1e-6, 1e30

Table = dict[str, Tensor]  # row name -> scalar


def bounded(losses: Tensor) -> Tensor:
    """losses [K] where logarithms and quotients are safe: one <= 1e-6 (a loss in dB, too) counts as 1e-6."""
    return losses.clamp(SMALLEST_LOSS, LARGEST_LOSS)


def gather(table: Table, rows: Sequence[str], start: Tensor) -> Tensor:
    """[K]: the table's scalar of each row; `start` [K] for rows not seen before."""
    found = [table[row].to(start) if row in table else start[i] for i, row in enumerate(rows)]
    return torch.stack(found)


def scatter(table: Table, rows: Sequence[str], values: Tensor) -> None:
    """Write values [K] under the rows' names."""
    table.update(zip(rows, values.unbind(), strict=True))


def beside(values: Sequence[float], like: Tensor) -> Tensor:
    """[K]: numbers from the host on the device of `like`, without waiting for that device."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)
