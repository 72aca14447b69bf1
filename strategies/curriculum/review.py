"""Review learning: one task after another, with hard samples of earlier tasks in a shrinking share."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, History, Stage
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from . import _harvest
from ._order import Order, OrderedCurriculum
from ._stages import split, uniform


@register
class Review(OrderedCurriculum):
    """Review learning (Su, Zheng, Wu 2024, arXiv 2408.06709): samples of abnormally high loss return in later stages.

    There is no public code, and the paper leaves details open. Everything that is not in its abstract is [ours] and a
    field. The stages are the same as in `sequential`. Rows `review:TASK` draw from the ids kept of that task. With an
    empty memory it equals `sequential`.
    """

    cost: ClassVar[Cost] = Cost(memory="ids and scores of the last `harvest` of a stage's samples")

    order: Order = "entropy_difference"
    """The paper's order starts with the degradation that changes the entropy of images least. See `sequential` for the
    other orders."""
    score: Literal["zscore", "fluctuation"] = "zscore"
    """zscore: (l - mean) / std against the running loss of the task; fluctuation: |l at the stage's end - l when drawn|
    of the same sample, at the cost of a second forward pass over the harvest."""
    threshold: float = 2.0
    """For zscore: only samples with a score above it are kept."""
    quota: float = Field(0.05, ge=0, le=1)
    """Largest share of the ids drawn for a task that is kept. The paper's ablation covers .01 to .2."""
    share: float = Field(0.25, ge=0, lt=1)
    """Share of the batch (or of the steps) spent on review in the second stage, over all earlier tasks together."""
    shrink: float = Field(0.8, ge=0, le=1)
    """Factor on the share from each stage to the next."""
    rehearse: Literal["interleaved", "phase"] = "interleaved"
    """interleaved: review in every batch; phase: review alone, at the end of each task's steps."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """For zscore: share of a stage after which the running loss starts."""
    harvest: float = Field(0.3, gt=0, le=1)
    """Last share of a stage from which samples are collected."""
    smoothing: float = Field(0.99, ge=0, lt=1)
    """Decay of the running mean and variance."""

    def reset(self) -> None:
        self._state = {"lessons": {}, "memory": {}}

    def next_stage(self, history: History) -> Stage | None:
        """Return the next task's stage or, with `phase`, the review that closes the previous task."""
        order = self.ordered(history)
        lengths = split(history.steps, [1] * len(order))
        taught = [stage.name for stage in history.stages if stage.name in order]
        for task in taught:
            if task not in self.state["memory"]:
                self.state["memory"][task] = self._hard_ids(task, history)
        if taught and history.stages[-1].name == taught[-1]:
            memory, share = self._review(order, len(taught) - 1)
            if self.rehearse == "phase" and (steps := int(share * lengths[len(taught) - 1])):
                return Stage(f"{taught[-1]}-review", uniform(list(memory)), steps, memory)
        return self._lesson(order, len(taught), lengths) if len(taught) < len(order) else None

    def _lesson(self, order: list[str], i: int, lengths: list[int]) -> Stage:
        task, (memory, share) = order[i], self._review(order, i)
        self.state["lessons"].setdefault(task, _harvest.fresh(lengths[i]))
        if self.rehearse == "phase":
            return Stage(task, {task: 1.0}, lengths[i] - int(share * lengths[i]), fresh_optimizer=True)
        mixture = {task: 1.0 - share} | {row: share / len(memory) for row in memory}
        return Stage(task, mixture, lengths[i], memory, fresh_optimizer=True)

    def _review(self, order: list[str], i: int) -> tuple[dict[str, list[int]], float]:
        """Return the review rows with their ids, and their common share, for the stage of task i (from 0)."""
        share = self.share * self.shrink ** max(i - 1, 0)
        kept = {f"review:{task}": self.state["memory"][task] for task in order[:i] if self.state["memory"][task]}
        return (kept, share) if kept and share else ({}, 0.0)

    # ------------------------------------------------------------------------------------------ hard samples

    def observe(self, batch: Batch, row: str, sample_losses: Tensor) -> None:
        """Record ids and losses [B] of the task that is being learnt."""
        lesson: dict[str, Any] | None = self.state["lessons"].get(row)
        if lesson is None:
            return
        losses = sample_losses.double()
        values = losses
        if self.score == "zscore":
            values = _harvest.zscores(lesson, losses, self.warmup * lesson["steps"], self.smoothing)
        _harvest.note(lesson, batch.ids, values, self.harvest)

    def _hard_ids(self, task: str, history: History) -> list[int]:
        lesson = self.state["lessons"].pop(task)
        if not lesson["ids"]:
            return []
        ids, values = _harvest.tail(lesson, self.harvest)
        if self.score == "fluctuation":
            values = (_harvest.losses_now(history.learner, task, ids) - values).abs()
        hardest = torch.sort(values, descending=True, stable=True).indices[: int(self.quota * lesson["drawn"])]
        if self.score == "zscore":
            hardest = hardest[values[hardest] > self.threshold]
        return sorted(ids.to(hardest.device)[hardest].tolist())
