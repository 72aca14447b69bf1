"""Shares of the batch: one apportionment over all rows, one counter per task, and one counter per memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.base.keyed import name_key, permuted
from cmtl_ir.strategy.data import Row, Stage


def stage_rows(stage: Stage, protecting: Sequence[Row]) -> list[Row]:
    """Return all rows of a stage, stage rows first. Protecting rows take their shares, and stage rows share the rest.

    Rows with share or coefficient 0 or an empty memory are dropped, so that they do not change a bit of the others.
    """
    kept = [row for row in protecting if row.share > 0 and row.coefficient != 0 and _drawable(row.memory)]
    mixture = {n: share for n, share in stage.mixture.items() if share > 0 and _drawable(stage.memory.get(n))}
    if not mixture:  # a stage of an unlearning program, whose rows all come from the method
        total = sum(row.share for row in kept)
        return [replace(row, share=row.share / total) for row in kept]
    scale = (1.0 - sum(row.share for row in kept)) / sum(mixture.values())
    if scale <= 0:
        raise ValueError(f"stage {stage.name!r}: protecting rows take {1 - scale:.0%} of the batch; nothing is left")
    own = [
        Row(name, name.rpartition(":")[2], share * scale, None, stage.memory.get(name))
        for name, share in mixture.items()
    ]
    return own + kept


def _drawable(memory: Sequence[int] | None) -> bool:
    return memory is None or len(memory) > 0


def apportion(rows: Sequence[Row], batch: int, carry: Mapping[str, float]) -> tuple[list[int], dict[str, float]]:
    """Return the number of samples of each row, and the remainders carried to the next step.

    With q = batch * share + carry, count = max(0, floor q). Missing samples go to the largest q - count, and surplus
    samples are taken from the smallest. Ties are broken by task name, then row name. Counts sum to `batch`.
    """
    if not rows:
        return [], {}
    wanted = [batch * row.share + carry.get(row.name, 0.0) for row in rows]
    counts = [max(0, math.floor(quota)) for quota in wanted]
    while (missing := batch - sum(counts)) != 0:
        sign = 1 if missing > 0 else -1
        able = [i for i in range(len(rows)) if sign > 0 or counts[i] > 0]
        chosen = min(able, key=lambda i: (-sign * (wanted[i] - counts[i]), rows[i].task, rows[i].name))
        counts[chosen] += sign
    return counts, {row.name: quota - count for row, quota, count in zip(rows, wanted, counts, strict=True)}


@dataclass
class DataState:
    """Data state of a run: everything needed to draw the same samples after resumption."""

    counters: dict[str, int] = field(default_factory=dict)
    """Task -> number of samples drawn from its stream. Memory row -> number of its draws."""
    carry: dict[str, float] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """Return the state as plain values for a checkpoint."""
        return {"counters": dict(self.counters), "carry": dict(self.carry)}

    def draw(self, row: Row, count: int, seed: int) -> Tensor:
        """Return the next `count` ids [count] of a row, and advance the counter of the task or of the memory row."""
        own = row.memory is not None or row.images is not None
        counter = f"memory of {row.name}" if own else row.task
        start = self.counters.get(counter, 0)
        self.counters[counter] = start + count
        numbers = torch.arange(start, start + count)
        return numbers if row.memory is None else _from_memory(row, numbers, seed)


def _from_memory(row: Row, numbers: Tensor, seed: int) -> Tensor:
    ids = torch.as_tensor(list(row.memory or ()), dtype=torch.int64)
    rounds, places = numbers // len(ids), numbers % len(ids)
    drawn = [
        permuted(name_key(seed, "memory", row.name, int(r)), places[rounds == r], len(ids)) for r in rounds.unique()
    ]
    return ids[torch.cat(drawn)]
