"""Which samples a step draws: one apportionment over all rows, one counter a task, one counter a memory."""

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
    """All rows of a stage, stage rows first: protecting rows take their shares, stage rows share the rest.

    Rows of share or coefficient 0, or with an empty memory, are dropped: they must not change a bit of the others.
    """
    kept = [row for row in protecting if row.share > 0 and row.coefficient != 0 and _drawable(row.memory)]
    mixture = {n: share for n, share in stage.mixture.items() if share > 0 and _drawable(stage.memory.get(n))}
    if not mixture:  # a stage of an unlearning program: its rows come from the method alone
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
    """How many samples each row gets, and what is carried to the next step.

    q = batch * share + carry; count = max(0, floor q); what is missing goes to the largest q - count, a surplus comes
    from the smallest; ties by task name, then row name. Counts sum to `batch`.
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
    """A run's data state: everything that resumption needs to draw the same samples."""

    counters: dict[str, int] = field(default_factory=dict)
    """Task -> how many of its stream were drawn; memory row -> how many of its draws were made."""
    carry: dict[str, float] = field(default_factory=dict)

    def tree(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"counters": dict(self.counters), "carry": dict(self.carry)}

    def draw(self, row: Row, count: int, seed: int) -> Tensor:
        """The next `count` ids [count] of a row; moves the task's counter, or the memory row's."""
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
