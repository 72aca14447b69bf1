"""THE LOOP: stage -> step -> losses or gradients -> weights -> update. It names no strategy.

One step, in this order: draw rows -> losses -> weighting -> surgery -> projection -> penalty's gradient -> clipping
-> optimizer -> after_step of the parts -> averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from cmtl_ir.base.memory import keep_freed_memory
from cmtl_ir.gradients.rows import RowGradients, choose_engine
from cmtl_ir.strategy.data import Row, Stage, StepContext
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.optimization import learning_rate
from cmtl_ir.training.samples import Ahead, Drawn, choose, draw, has_room
from cmtl_ir.training.shares import DataState, apportion, stage_rows
from cmtl_ir.training.step import Stepper, StepResult, narrowed, share_of_mean, tier_of


class Watcher(Protocol):
    """Who looks on: logging, evaluation, checkpoints, progress. It may raise to stop the run."""

    def looks_at(self, step: int) -> bool:
        """True: this step's row gradients are wanted."""

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """After every step; `learner.step` counts it already."""

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        """After the parts prepared a stage, before its first step."""

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        """After a stage's last step, when the stage has joined the history."""


def train(learner: Learner, watcher: Watcher) -> None:
    """Train to the end of the curriculum, from wherever the learner stands."""
    if learner.device.type == "cpu":
        keep_freed_memory()
    curriculum, retention = learner.strategy.curriculum, learner.strategy.retention
    while True:
        stage = learner.stage or curriculum.next_stage(learner.history())
        if stage is None:
            return
        seen = learner.seen(stage)
        if seen.steps < stage.steps:  # every task of it is struck out: a run without them has no such stage
            learner.finished = (*learner.finished, seen)
            watcher.stage_ended(learner, seen)
            continue
        if learner.stage is None:
            learner.start_stage(stage)
            if retention is not None:
                retention.begin_stage(seen, learner)
        train_stage(learner, stage, watcher)
        if retention is not None:
            retention.end_stage(seen, learner)
        learner.finish_stage()
        watcher.stage_ended(learner, seen)


def train_stage(learner: Learner, stage: Stage, watcher: Watcher) -> None:
    """All steps of a stage that are still to be made."""
    retention = learner.strategy.retention
    rows = stage_rows(stage, retention.rows(learner.seen(stage), learner) if retention is not None else [])
    stepper = Stepper(learner, rows, make_engine(learner, rows, watcher))
    learner.agree()
    watcher.stage_started(learner, stage)
    learner.model.train()
    with Ahead(learner.batch) as ahead:
        while learner.steps_left > 0:
            drawn = next_samples(learner, rows, ahead)
            context, rate = context_of(learner, stage, drawn), rate_of(learner, stage)
            result = stepper.update(drawn, context, watcher.looks_at(learner.step))
            learner.before = learner.copy_of_weights() if watcher.looks_at(learner.step + 1) else None
            apply_update(learner, rate)
            if drawn.stage_rows:
                learner.strategy.weighting.after_step(narrowed(context, range(drawn.stage_rows)))
            learner.step, learner.stage_step = learner.step + 1, learner.stage_step + 1
            watcher.stepped(learner, result, rate)
    learner.data.carry = {}


def next_samples(learner: Learner, rows: list[Row], ahead: Ahead) -> Drawn:
    """The samples of the step at hand; those of the one after it begin to be drawn where there is room for it."""
    counts, learner.data.carry = apportion(rows, learner.training.batch, learner.data.carry)
    ahead.arrive()
    drawn = draw(learner, rows, learner.kept_counts(rows, counts), ahead)
    if learner.steps_left > 1 and has_room(learner.device):
        counts, _ = apportion(rows, learner.training.batch, learner.data.carry)
        coming = DataState(dict(learner.data.counters))
        held = choose(learner, coming, rows, learner.kept_counts(rows, counts)).held()
        ahead.expect([(row.task, ids, row.images) for row, ids in held if len(ids)])
    return drawn


def rate_of(learner: Learner, stage: Stage) -> float:
    """The learning rate of the step at hand."""
    schedule = learner.training.schedule.of_stage(stage.cycles)
    offset, length = stage.span or (0, stage.steps)
    return stage.rate * learning_rate(learner.training.optimizer.lr, schedule, offset + learner.stage_step, length)


def apply_update(learner: Learner, rate: float) -> None:
    """From the gradients in `.grad` to new weights: penalty, clipping, optimizer, retention, average."""
    retention = learner.strategy.retention
    update = None
    if retention is not None and retention.needs_update:
        update = torch.cat([_gradient(parameter).flatten() for parameter in learner.trained_parameters()])
    penalty = retention.penalty(learner.model) if retention is not None else None
    if penalty is not None:
        penalty.backward()
    if learner.training.clip is not None:
        moved = [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(moved, learner.training.clip)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    if retention is not None:
        retention.after_step(learner, update)
    if learner.average is not None:
        learner.average.update(learner.model)


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()


def context_of(learner: Learner, stage: Stage, drawn: Drawn) -> StepContext:
    """What the parts may know of this step."""
    return StepContext(
        step=learner.step,
        stage=stage.name,
        rows=tuple(row.name for row in drawn.rows),
        counts=tuple(drawn.counts),
        seed=learner.seed,
        losses_again=second_look(learner, drawn) if learner.strategy.weighting.looks_again else None,
    )


def second_look(learner: Learner, drawn: Drawn) -> Callable[[], Tensor]:
    """The losses [K] of the same stage rows under the weights as they are when it is called."""

    @torch.no_grad()
    def losses() -> Tensor:
        means = []
        for batch, count in zip(drawn.batches[: drawn.stage_rows], drawn.counts, strict=False):
            held = len(batch.ids) > 0
            found = learner.sample_losses(learner.restore(batch), batch) if held else batch.clean.new_zeros(0)
            means.append(share_of_mean(found, count).double())
        return learner.ranks.sum(torch.stack(means))

    return losses


def make_engine(learner: Learner, rows: list[Row], watcher: Watcher) -> RowGradients | None:
    """The row-gradient engine of a stage, when a part or the watcher needs one."""
    looks = any(watcher.looks_at(step) for step in _steps(learner))
    micro_batch = learner.training.micro_batch
    if not rows or (tier_of(learner, rows) == "losses" and not looks and micro_batch is None):
        return None
    per_row = learner.training.batch / len(rows)
    name: Any = learner.training.engine
    if name == "auto":
        name = choose_engine(per_row, learner.patch) if micro_batch is None else "stream"
    return RowGradients(learner.model, (2 if looks else 1) * len(rows), name, micro_batch)


def _steps(learner: Learner) -> range:
    assert learner.stage is not None
    return range(learner.step, learner.step + learner.stage.steps - learner.stage_step)
