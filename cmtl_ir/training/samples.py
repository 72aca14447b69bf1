"""Choice and drawing of the samples of a step. Shapes: N samples of H x W pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.base.environment import cores
from cmtl_ir.base.ranks import Ranks
from cmtl_ir.strategy.data import Batch, Row
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.shares import DataState


@dataclass(frozen=True)
class Selection:
    """The ids of the samples that a step takes, row after row."""

    rows: list[Row]  # present ones: loss rows first (stage, then protecting), projected rows last
    counts: list[int]  # on all ranks together
    ids: list[Tensor]  # [counts] of each row, on all ranks together
    windows: list[tuple[int, int]]  # (start, stop) of each row held by this process

    def held(self) -> list[tuple[Row, Tensor]]:
        """Return each row with the ids that this process holds of it."""
        return [(row, ids[slice(*own)]) for row, ids, own in zip(self.rows, self.ids, self.windows, strict=True)]

    @property
    def entering(self) -> int:
        """M, the number of rows that enter the loss."""
        return sum(not row.projected for row in self.rows)

    @property
    def stage_rows(self) -> int:
        """K, the number of rows that the weighting weighs."""
        return sum(row.coefficient is None for row in self.rows)


@dataclass(frozen=True)
class Samples(Selection):
    """The chosen ids of one step with their samples."""

    batches: list[Batch]  # of each row what this process holds: the whole row, or its window under torchrun
    degraded: Tensor  # [N, 3, H, W], held by this process
    task_numbers: Tensor  # [N]

    def whole(self) -> Batch:
        """Return all samples held by this process as one batch without a task, row after row."""
        ids, clean = (torch.cat([getattr(batch, name) for batch in self.batches]) for name in ("ids", "clean"))
        return Batch("", ids, self.degraded, clean)

    def pair(self, start: int, stop: int, seed: int) -> dict[str, Tensor]:
        """Return `target`, the clean images [n, 3, H, W] of samples start .. stop, and a key of each, `keys` [n].

        A key belongs to the row's name and the sample's id, so that every sample of every step has its own.
        """
        keys = [
            keyed.keys_of(keyed.name_key(seed, "training pair", row.name), batch.ids)
            for row, batch in zip(self.rows, self.batches, strict=True)
        ]
        clean = torch.cat([batch.clean for batch in self.batches])
        return {"target": clean[start:stop], "keys": torch.cat(keys)[start:stop].to(clean.device)}

    def of_all_ranks(self, row: str, values: Tensor, ranks: Ranks) -> Tensor:
        """Return a value [n, ...] of each sample of a row in drawing order, from the values held by each rank."""
        if ranks.count == 1:
            return values
        place = [one.name for one in self.rows].index(row)
        whole = values.new_zeros(self.counts[place], *values.shape[1:])
        whole[slice(*self.windows[place])] = values
        return ranks.sum(whole)


def choose(learner: Learner, data: DataState, rows: Sequence[Row], counts: Sequence[int]) -> Selection:
    """Choose the next `counts` samples of `rows` by the counters of `data`. Rows without samples are left out."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].projected)
    kept = [rows[i] for i in order if counts[i] > 0]
    numbers = [counts[i] for i in order if counts[i] > 0]
    windows = _windows(numbers, *learner.ranks.window(sum(numbers)))
    ids = [data.draw(row, count, learner.seed) for row, count in zip(kept, numbers, strict=True)]
    return Selection(kept, numbers, ids, windows)


def draw(learner: Learner, rows: Sequence[Row], counts: Sequence[int], prefetcher: Prefetcher | None = None) -> Samples:
    """Draw `counts` samples of `rows`. Rows without samples are left out.

    `prefetcher`: may have drawn the samples already. `None` draws them now.
    """
    chosen = choose(learner, learner.data, rows, counts)
    if not chosen.rows:
        return Samples(**vars(chosen), batches=[], degraded=torch.empty(0), task_numbers=torch.empty(0))
    batches = [_batch_of(learner, row, ids, (prefetcher or learner).batch) for row, ids in chosen.held()]
    degraded = torch.cat([batch.degraded for batch in batches])
    tasks = [learner.task_numbers(row.task, len(b.ids)) for row, b in zip(chosen.rows, batches, strict=True)]
    return Samples(**vars(chosen), batches=batches, degraded=degraded, task_numbers=torch.cat(tasks))


def _windows(counts: Sequence[int], start: int, stop: int) -> list[tuple[int, int]]:
    """Return per row the (start, stop) of its samples within start .. stop of all samples, row after row."""
    found, place = [], 0
    for count in counts:
        found.append((min(max(start - place, 0), count), min(max(stop - place, 0), count)))
        place += count
    return found


def _batch_of(learner: Learner, row: Row, ids: Tensor, samples: Callable[[str, Tensor, str | None], Batch]) -> Batch:
    if not len(ids):
        side = learner.phase_after(0).patch
        nothing = torch.empty(0, 3, side, side, device=learner.device)
        return Batch(row.task, ids, nothing, nothing)
    batch = samples(row.task, ids, row.images)
    return batch if row.view is None else row.view(batch)


Wanted = tuple[str, Tensor, str | None]
"""Task, ids [B], and the task whose clean images are taken. `None` means the task's own images."""


_Key = tuple[str, tuple[int, ...], str | None]


def has_room(device: torch.device) -> bool:
    """Return whether a core is free to draw samples. If training uses all, drawing ahead costs more than it saves."""
    return device.type != "cpu" or torch.get_num_threads() < cores()


class Prefetcher:
    """Context manager that draws batches in a thread before they are needed. The thread ends on exit."""

    def __init__(self, draw: Callable[[str, Tensor, str | None], Batch]) -> None:
        """`draw` must be safe to call from a second thread during training."""
        self._draw = draw
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="samples ahead")
        self._coming: Future[Mapping[_Key, Batch]] | None = None
        self._here: Mapping[_Key, Batch] = {}

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)

    def prefetch(self, wanted: Sequence[Wanted]) -> None:
        """Start to draw the batches that the next step will probably need."""
        self._coming = self._thread.submit(self._draw_all, list(wanted)) if wanted else None

    def wait(self) -> None:
        """Wait for the prefetched batches at the beginning of their step. Raise any error that drawing them raised."""
        coming, self._coming = self._coming, None
        self._here = coming.result() if coming is not None else {}

    def batch(self, task: str, ids: Tensor, images: str | None = None) -> Batch:
        """Return the samples, which are drawn now if they were not prefetched."""
        drawn = self._here.get(_key(task, ids, images))
        return self._draw(task, ids, images) if drawn is None else drawn

    def _draw_all(self, wanted: Sequence[Wanted]) -> Mapping[_Key, Batch]:
        return {_key(*one): self._draw(*one) for one in wanted}


def _key(task: str, ids: Tensor, images: str | None) -> _Key:
    return task, tuple(ids.tolist()), images
