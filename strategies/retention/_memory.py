"""Memory of sample ids per task, and the rows that draw from it. It stores ids, never images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner, Row, Stage
from cmtl_ir.strategy.parts import Cost, Retention

from ..shared.tasks import old_tasks, own_tasks

Capacity = int | Literal["all"]
Policy = Literal["balanced", "balanced_up", "reservoir"]


class Memory:
    """Ids of at most `capacity` samples of all tasks together. All its data is in `state`, a tree to be saved.

    `kept` changes only at the end of a stage, so that a resumed stage finds the rows it began with.
    """

    def __init__(self, state: dict[str, Any], capacity: Capacity, policy: Policy) -> None:
        self.state, self.capacity, self.policy = state, capacity, policy

    @staticmethod
    def empty(seed: int) -> dict[str, Any]:
        """Return the state of an empty memory. Its random choices are keyed by the seed."""
        return {"seed": seed, "seen": 0, "drawn": {}, "slots": [], "kept": {}}

    @property
    def kept(self) -> dict[str, list[int]]:
        """Task -> ids to draw from, in the order in which the tasks were first trained."""
        return self.state["kept"]

    def see(self, task: str, ids: Tensor) -> None:
        """Record that samples [B] of a task's own stream were trained on."""
        drawn, largest = self.state["drawn"], int(ids.max())
        drawn[task] = max(drawn.get(task, 0), largest + 1)
        if self.policy == "reservoir" and self.capacity != "all":
            slots = self.state["slots"]
            for number, sample in zip(self._slots(len(ids), self.capacity), ids.tolist(), strict=True):
                if number < self.capacity:  # one past the end while the memory fills up
                    slots[number : number + 1] = [[task, sample]]
        self.state["seen"] += len(ids)

    def _slots(self, count: int, capacity: int) -> Iterator[int]:
        """Return the slots of the next samples (Vitter 1985, Algorithm R).

        The n-th sample takes slot n while the memory fills up. A later one takes a slot drawn from n.
        """
        numbers = torch.arange(self.state["seen"] + 1, self.state["seen"] + count + 1)
        keys = keyed.keys_of(keyed.name_key(self.state["seed"], "reservoir"), numbers)
        drawn = torch.where(numbers <= capacity, numbers - 1, keyed.integers(keys, 0, numbers))
        return iter(drawn.tolist())

    def close_stage(self) -> None:
        """Select the ids that are kept after this stage."""
        tasks = list(self.state["drawn"])
        if self.capacity == "all":
            kept = {task: list[int]() for task in tasks}
        elif self.policy == "reservoir":
            kept = {task: sorted(n for name, n in self.state["slots"] if name == task) for task in tasks}
        else:
            quota = self.capacity // len(tasks) if self.policy == "balanced" else -(-self.capacity // len(tasks))
            kept = {task: self._smallest_hashes(task, quota) for task in tasks}
        self.state["kept"] = kept

    def _smallest_hashes(self, task: str, count: int) -> list[int]:
        """Return the `count` ids of smallest hash. A smaller quota keeps a subset of what a larger one keeps."""
        ids = torch.arange(self.state["drawn"][task])
        keys = keyed.keys_of(keyed.name_key(self.state["seed"], "memory", task), ids)
        return sorted(keys.argsort(stable=True)[:count].tolist())


class Remembering(Retention):
    """A retention that keeps ids of old samples."""

    cost: ClassVar[Cost] = Cost(memory="ids of `capacity` samples")

    share: float = Field(0.5, ge=0, lt=1)
    """Share of the batch that old tasks take together, split equally between them."""
    capacity: Capacity = 500
    """Number of samples remembered, of all tasks together; all: every id, so that the stream of an old task
    continues."""
    policy: Policy = "balanced"
    """balanced: floor(capacity / tasks) of each task, the samples of smallest hash; balanced_up: ceil(capacity /
    tasks); reservoir: every sample of the run with the same probability."""

    @property
    def memory(self) -> Memory:
        """Memory of the current run."""
        return Memory(self.state["memory"], self.capacity, self.policy)

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Create an empty memory before the first stage."""
        self.state.setdefault("memory", Memory.empty(learner.seed))

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Record the ids of the stage's own rows."""
        if row == batch.task:
            self.memory.see(row, batch.ids)

    def learned_before(self, stage: Stage, learner: Learner) -> None:
        """Take the first `capacity` ids of each task for those that it was trained on."""
        count = 1 if self.capacity == "all" else self.capacity
        for task in own_tasks(stage) if count else ():
            self.memory.see(task, torch.arange(count))

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Select the ids to remember."""
        self.memory.close_stage()

    def remembered(self, stage: Stage) -> dict[str, list[int] | None]:
        """Return the ids to draw from for each old task. `None` means that the task's own stream continues."""
        kept, whole = self.memory.kept, self.capacity == "all"
        return {task: None if whole else kept[task] for task in old_tasks(list(kept), stage) if whole or kept[task]}

    def memory_rows(self, stage: Stage, share: float, coefficient: float, **how: Any) -> list[Row]:
        """Return one row `memory:TASK` per old task. The rows split `share` equally."""
        old = self.remembered(stage)
        return [Row(f"memory:{t}", t, share / len(old), coefficient, memory=ids, **how) for t, ids in old.items()]
