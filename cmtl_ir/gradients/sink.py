"""Storage of the row gradients of one joint pass: in J for a parameter, separately for a tensor made from parameters.

Shapes: M rows, N samples, NB = N * B first entries of data, L positions, I and O channels in and out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cmtl_ir.base.pointwise import NARROW


class Unsupported(Exception):
    """Raised with the reason why one joint pass cannot compute the row gradients."""


@dataclass(frozen=True)
class Run:
    """Consecutive rows with the same number of samples."""

    first: int
    rows: int
    start: int  # first sample
    size: int  # samples of each row


class Sink:
    """Stores the rows' gradients: in J for a parameter, in `aside` for a tensor made from parameters."""

    def __init__(self, sizes: Sequence[int], blocks: dict[int, Tensor]) -> None:
        self.rows, self.samples = len(sizes), sum(sizes)
        self.bounds = [(sum(sizes[:row]), sum(sizes[: row + 1])) for row in range(len(sizes))]
        self.runs: list[Run] = []
        for row, size in enumerate(sizes):
            last = self.runs[-1] if self.runs else None
            if last is not None and last.size == size:
                self.runs[-1] = Run(last.first, last.rows + 1, last.start, size)
            else:
                self.runs.append(Run(row, 1, sum(sizes[:row]), size))
        self.blocks = blocks  # id -> [M or more, *shape], views of J
        self.aside: dict[int, Tensor] = {}
        self.written: set[int] = set()

    def open(self, key: int, like: Tensor) -> tuple[Tensor, bool]:
        """Return the block [M, *shape] of a tracked tensor, and whether it holds values to add to."""
        block = self.blocks.get(key)
        if block is not None and len(block) > self.rows:
            block = block[: self.rows]
        if block is None:
            block = self.aside.get(key)
            if block is None:
                dtype = torch.promote_types(like.dtype, torch.float32)
                block = self.aside[key] = torch.empty(self.rows, *like.shape, dtype=dtype, device=like.device)
        seen = key in self.written
        self.written.add(key)
        return block, seen

    def split(self, data: Tensor) -> list[Tensor]:
        """Split data [NB, ...] into [rows, size * B, ...] of every run."""
        rest = data.shape[1:]
        each = data.shape[0] // self.samples
        if len(self.runs) == 1:
            return [data.reshape(self.rows, self.runs[0].size * each, *rest)]
        return [
            data.narrow(0, run.start * each, run.rows * run.size * each).reshape(run.rows, -1, *rest)
            for run in self.runs
        ]

    def bounds_of(self, data: Tensor) -> list[tuple[int, int]]:
        """Return (start, stop) of every row along the first dimension of data [NB, ...]."""
        each = data.shape[0] // self.samples
        return [(start * each, stop * each) for start, stop in self.bounds]

    def put(self, key: int, tracked: Tensor, pieces: Sequence[Tensor]) -> None:
        """Store the gradients of every run, [rows, *shape] or any shape with as many elements."""
        block, seen = self.open(key, tracked)
        for target, piece in zip(self._targets(block), pieces, strict=True):
            _put(target, piece.reshape(target.shape), seen)

    def _targets(self, block: Tensor) -> list[Tensor]:
        """Return the views [rows, ...] of block [M, ...] for every run."""
        return [block] if len(self.runs) == 1 else [block.narrow(0, run.first, run.rows) for run in self.runs]

    def put_rows(self, key: int, tracked: Tensor, gradients: Sequence[Tensor]) -> None:
        """Store one gradient per row, each with the shape of the tracked tensor."""
        block, seen = self.open(key, tracked)
        for target, gradient in zip(block, gradients, strict=True):
            _put(target, gradient, seen)

    def put_sums(self, key: int, tracked: Tensor, data: Tensor, shape: Sequence[int]) -> None:
        """Store sums of data [NB, ...] over each row and each dimension in which `shape` (of data's rank) has 1."""
        if data.dim() == 4 and all(size == 1 for size in shape[2:]):  # a channels_last sum is fast in this order only
            data, shape = data.permute(0, 2, 3, 1), (1, 1, 1, shape[1])
        extra = [i + 1 for i in range(1, data.dim()) if shape[i] == 1]
        flat = extra == list(range(2, data.dim())) and data.is_contiguous()
        pieces = [part.flatten(1, -2).sum(1) if flat else part.sum((1, *extra)) for part in self.split(data)]
        self.put(key, tracked, pieces)

    def matrices(self, data: Tensor) -> list[Tensor]:
        """Return data [NB, ..., C] as [rows, L, C] for every run, with all positions of a row along L."""
        if len(self.runs) == 1:
            return [data.reshape(self.rows, -1, data.shape[-1])]
        return [part.flatten(1, -2) for part in self.split(data)]

    def put_outer(self, key: int, weight: Tensor, grads: Sequence[Tensor], data: Sequence[Tensor]) -> None:
        """Store grad^T data of every row for a weight [O, I] or [O, I, 1, 1].

        `grads` and `data` have one entry per run: grad [rows, L, O] and data [rows, L, I].
        """
        block, seen = self.open(key, weight)
        block = block if block.dim() == 3 else block.flatten(2)
        for target, g, x in zip(self._targets(block), grads, data, strict=True):
            # Not directly into J: if rows are P apart, torch multiplies row by row and takes up to three times as long.
            narrow = x.shape[2] < NARROW <= g.shape[2]
            product = torch.bmm(x.transpose(1, 2), g).transpose(1, 2) if narrow else torch.bmm(g.transpose(1, 2), x)
            _put(target, product, seen)


def _put(target: Tensor, value: Tensor, seen: bool) -> None:
    target.add_(value) if seen else target.copy_(value)
