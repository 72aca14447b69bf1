"""Joint training whose end returns to the samples with the largest losses."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base.keyed import keys_of, name_key
from cmtl_ir.strategy.data import Batch, History, Stage
from cmtl_ir.strategy.parts import Cost, Curriculum
from cmtl_ir.strategy.registry import register

from . import _harvest
from ._stages import uniform

LAST = "worst"


@register
class Worst(Curriculum):
    """Joint training, and a last stage with the worst samples of each task (the data rule of IRPO, arXiv 2512.00814).

    Rows `worst:TASK` draw from the share `q` of a task's samples with the largest losses when they were drawn. Each
    task is compared with itself. Optimizer and learning-rate schedule go on through both stages. `choose: random` is
    the control: the same number of the same samples, which are seen a second time too. With `share: 0` it is joint
    training.

    The reward and the policy of the paper are not here. Lengths and shares are [ours].
    """

    cost: ClassVar[Cost] = Cost(memory="ids and losses of the last `harvest` of the samples")

    q: float = Field(0.3, gt=0, le=1)
    """Share of a task's samples that count as its worst."""
    share: float = Field(0.5, ge=0, lt=1)
    """Share of the batch in the last stage for the worst samples of all tasks together."""
    length: float = Field(0.3, gt=0, lt=1)
    """Share of the steps in the last stage."""
    harvest: float = Field(0.3, gt=0, le=1)
    """Last share of the joint stage's samples from which they are taken: losses at its beginning are those of a network
    that has learnt nothing."""
    choose: Literal["worst", "random"] = "worst"
    """worst: the largest losses; random: as many by chance, as a control."""

    def reset(self) -> None:
        self._state = {"lessons": {}, "ids": {}}

    def next_stage(self, history: History) -> Stage | None:
        """Return the joint stage, then the last stage."""
        done, last = len(history.stages), int(self.length * history.steps) if self.share else 0
        first = history.steps - last
        if done == 0:
            return Stage("joint", uniform(history.tasks), first, span=(0, history.steps))
        if done == 2 or not last:
            return None
        for task in history.tasks:
            if task not in self.state["ids"]:
                self.state["ids"][task] = self._worst(task, history.learner.seed)
        memory = {f"{LAST}:{task}": ids for task, ids in self.state["ids"].items() if ids}
        again = self.share if memory else 0.0
        mixture = {task: share * (1 - again) for task, share in uniform(history.tasks).items()}
        mixture |= {row: again / len(memory) for row in memory}
        return Stage(LAST, mixture, last, memory, span=(first, history.steps))

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Record ids and losses [B] of the joint stage."""
        if self.share and ":" not in row and row not in self.state["ids"]:
            lesson: dict[str, Any] = self.state["lessons"].setdefault(row, _harvest.fresh(0))
            _harvest.note(lesson, batch.ids, sample_losses.double(), self.harvest)

    def _worst(self, task: str, seed: int) -> list[int]:
        lesson = self.state["lessons"].pop(task, None)
        if lesson is None:
            return []
        ids, losses = _harvest.tail(lesson, self.harvest)
        if self.choose == "random":
            losses = keys_of(name_key(seed, "random instead of worst", task), ids)
        return worst_of(ids, losses, self.q)


def worst_of(ids: Tensor, losses: Tensor, q: float) -> list[int]:
    """Return the ids, sorted, of the share `q` of the samples with the largest losses; at least one."""
    count = max(1, math.floor(q * len(ids) + 1e-9))
    largest = torch.sort(losses, descending=True, stable=True).indices[:count]
    return sorted(ids.to(largest.device)[largest].tolist())
