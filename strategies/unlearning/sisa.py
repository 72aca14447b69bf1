"""Models on disjoint parts of the data, so that forgetting affects as few of them as possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Constituent, Ensemble

Ids = dict[str, list[int]]


class Slices(Curriculum):
    """The training of one constituent: slice 1, then slices 1 and 2, and so on, a fresh optimizer each."""

    shard: int
    """Index of the shard."""
    shards: int
    """Number of shards."""
    slices: int
    """Number of slices, one stage each."""
    samples: dict[str, int]
    """Task -> number of draws of the whole ensemble, before anything is forgotten."""
    without: Ids
    """Task -> forgotten draws."""
    batch: int
    """Samples per step."""

    def members(self, task: str, slices: int) -> list[int]:
        """Return the ids of this shard in the first `slices` slices, decided by hashes of (task, id) alone."""
        ids = torch.arange(self.samples[task])
        shard = keyed.integers(keyed.keys_of(keyed.name_key("sisa shard", task), ids), 0, self.shards)
        slice_ = keyed.integers(keyed.keys_of(keyed.name_key("sisa slice", task), ids), 0, self.slices)
        gone = set(self.without.get(task, ()))
        return [n for n in ids[(shard == self.shard) & (slice_ < slices)].tolist() if n not in gone]

    def stages(self) -> list[Stage]:
        """Return the stages, whose steps follow from the ids that remain.

        They make 2 / (R + 1) passes over each union, which costs one pass in all.
        """
        made = []
        for number in range(1, self.slices + 1):
            memory = {f"slice:{task}": self.members(task, number) for task in self.samples}
            total = sum(len(ids) for ids in memory.values())
            steps = max(1, round(total * 2 / (self.slices + 1) / self.batch))
            mixture = {row: len(ids) / max(total, 1) for row, ids in memory.items() if ids}
            made.append(Stage(f"slice{number}", mixture, steps if mixture else 0, memory, fresh_optimizer=True))
        return made

    def next_stage(self, history: History) -> Stage | None:
        stages = self.stages()
        return stages[len(history.stages)] if len(history.stages) < len(stages) else None


@register
class Sisa(Ensemble):
    """SISA training (Bourtoule et al., S&P 2021, Sec. IV): S shards by hash(id), R slices, the mean of the S outputs.

    It is exact: a shard that holds forgotten samples returns to the last slice without them. Every task is in every
    shard and slice, so forgetting a whole task restarts all shards. `shard_by: task` trains one model per task, and
    forgetting deletes it. The ensemble consists of smaller models, so compare it with itself before forgetting. It
    needs retain data.
    """

    shards: int = Field(4, ge=1)
    """S: number of shards. With shard_by: task there is one per task."""
    slices: int = Field(1, ge=1)
    """R: number of stages of each shard's training, from whose ends it can resume."""
    shard_by: Literal["id", "task"] = "id"
    """id: every shard holds some samples of every task; task: one constituent per task."""
    ids: Ids | None = None
    """Forget only these draws, {task: [n, ...]}, and keep the tasks; null: forget whole tasks."""

    def constituents(self, samples: Mapping[str, int], batch: int) -> list[Constituent]:
        if self.shard_by == "task":
            groups = [(f"task-{task}", {task: count}, 0, 1) for task, count in samples.items()]
        else:
            groups = [(f"shard-{i}", dict(samples), i, self.shards) for i in range(self.shards)]
        made = [self._constituent(name, own, shard, of, batch) for name, own, shard, of in groups]
        return [one for one in made if one is not None]

    def _constituent(
        self, name: str, samples: dict[str, int], shard: int, shards: int, batch: int
    ) -> Constituent | None:
        tasks, gone = dict(samples), {task: [int(n) for n in ids] for task, ids in (self.ids or {}).items()}
        if self.ids is None:
            tasks = {task: count for task, count in samples.items() if task not in self.request.forget}
        if not tasks:
            return None
        gone = {task: ids for task, ids in gone.items() if task in tasks}
        fields = {"shard": shard, "shards": shards, "slices": self.slices, "batch": batch}
        whole = Slices(samples=samples, without={}, **fields)
        hit = {t: sorted(set(ids) & set(whole.members(t, self.slices))) for t, ids in gone.items()}
        hit = {task: ids for task, ids in hit.items() if ids}
        now = Slices(samples=tasks, without=hit, **fields)
        if not hit:
            return Constituent(name, tuple(tasks), now, touched=tasks != samples)
        same = sum(one == other for one, other in zip(whole.stages(), now.stages(), strict=True))
        return Constituent(name, tuple(tasks), now, True, whole, same)
