"""The samples of a step as pieces of its rows, and their losses. Each of several ranks holds a part of a piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cmtl_ir.base.ranks import Ranks
from cmtl_ir.strategy.data import Batch
from cmtl_ir.training.samples import Samples


@dataclass(frozen=True)
class Piece:
    """Samples start .. stop of a row. This process holds samples first .. last."""

    row: int
    start: int
    stop: int
    first: int
    last: int

    @property
    def size(self) -> int:
        """Number of samples on all ranks."""
        return self.stop - self.start

    @property
    def held(self) -> int:
        """Number of samples held by this process."""
        return self.last - self.first


@dataclass(frozen=True)
class PieceLosses:
    """Losses of the samples of a piece that this process holds, [n] each."""

    restoration: Tensor
    """l_i: the row's own loss or the base objective."""
    total: Tensor
    """l_i + sum_a w_a A_a(i), which is differentiated. The same tensor if the row carries no auxiliary objective."""

    def detached(self) -> PieceLosses:
        """Return the losses without their graph."""
        return PieceLosses(self.restoration.detach(), self.total.detach())


def cut(drawn: Samples, halves: bool) -> list[Piece]:
    """Return whole rows, or the two halves of each row with at least two samples."""
    pieces = []
    for row, (count, (first, last)) in enumerate(zip(drawn.counts, drawn.windows, strict=True)):
        middle = count // 2 if halves else 0
        for start, stop in ((0, middle), (middle, count)):
            if stop > start:
                own = max(first, start)
                pieces.append(Piece(row, start, stop, own, max(own, min(last, stop))))
    return pieces


def gathering(pieces: Sequence[Piece], counts: Sequence[int]) -> Tensor:
    """Return the matrix [rows, pieces] float64 from the pieces' mean gradients to the rows' mean gradients."""
    matrix = torch.zeros(len(counts), len(pieces), dtype=torch.float64)
    for number, piece in enumerate(pieces):
        matrix[piece.row, number] = piece.size / counts[piece.row]
    return matrix


def of_all_ranks(pieces: Sequence[Piece], held: Sequence[Tensor], ranks: Ranks) -> list[Tensor]:
    """Return a value of every sample of each piece, from the values of the samples held by each rank."""
    if ranks.count == 1:
        return list(held)
    whole = [values.new_zeros(piece.size) for piece, values in zip(pieces, held, strict=True)]
    for full, values, piece in zip(whole, held, pieces, strict=True):
        full[piece.first - piece.start : piece.last - piece.start] = values
    return list(ranks.sum(torch.cat(whole)).split([len(one) for one in whole]))


def share_of_mean(losses: Tensor, count: int) -> Tensor:
    """Return the share of these losses in the mean over `count` samples: their mean if they are all of them."""
    return losses.mean() if len(losses) == count else losses.sum() / count


def part_of(batch: Batch, start: int, stop: int) -> Batch:
    """Return samples start .. stop of a batch."""
    if start == 0 and stop == len(batch.ids):
        return batch
    window = slice(start, stop)
    return replace(batch, ids=batch.ids[window], degraded=batch.degraded[window], clean=batch.clean[window])
