"""The training loop: stage -> step -> losses or gradients -> weights -> update. It knows no strategy by name.

Order of one step: draw rows -> losses, with auxiliary objectives -> weighting -> surgery -> projection -> gradient of
the penalty -> clipping -> optimizer -> after_step of the parts -> averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor

from cmtl_ir.base.memory import keep_freed_memory
from cmtl_ir.gradients.rows import RowGradients, choose_engine
from cmtl_ir.strategy.data import Batch, Row, Stage, StepContext
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.auxiliaries import Auxiliaries
from cmtl_ir.training.composition import narrowed, tier_of
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.optimization import frozen, learning_rate
from cmtl_ir.training.pieces import share_of_mean
from cmtl_ir.training.samples import Prefetcher, Samples, choose, draw, has_room
from cmtl_ir.training.shares import DataState, apportion, stage_rows
from cmtl_ir.training.step import Stepper, StepResult


class Watcher(Protocol):
    """Observer of a run for logging, evaluation, checkpoints and progress. It may raise to stop the run."""

    def wants_gradients(self, step: int) -> bool:
        """Return whether the row gradients of this step are to be logged."""

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """Called after every step. `learner.step` already includes it."""

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        """Called after the parts have prepared a stage, before its first step."""

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        """Called after the last step of a stage, when the stage is in the history."""


def train(learner: Learner, watcher: Watcher) -> None:
    """Train from the current state of the learner to the end of the curriculum."""
    if learner.device.type == "cpu":
        keep_freed_memory()
    curriculum, retention = learner.strategy.curriculum, learner.strategy.retention
    if learner.learned and not learner.finished:
        take_over(learner, watcher)
    while True:
        stage = learner.stage or curriculum.next_stage(learner.history())
        if stage is None:
            return
        seen = learner.seen(stage)
        if seen.steps < stage.steps:  # all its tasks are excluded: a run without them has no such stage
            learner.finished = (*learner.finished, seen)
            watcher.stage_ended(learner, seen)
            continue
        if learner.stage is None:
            learner.start_stage(stage)
            if retention is not None:
                retention.begin_stage(seen, learner)
        train_stage(learner, stage, watcher)
        learner.hand_over()
        if retention is not None:
            retention.end_stage(seen, learner)
        learner.finish_stage()
        watcher.stage_ended(learner, seen)


def take_over(learner: Learner, watcher: Watcher) -> None:
    """Finish the stage of the tasks that the weights of `start` already know, which takes no step."""
    stage, retention = learner.learned_stage(), learner.strategy.retention
    if retention is not None:
        retention.begin_stage(stage, learner)
        retention.enter_stage(stage, learner)
        retention.learned_before(stage, learner)
        retention.end_stage(stage, learner)
    learner.finished = (stage,)
    watcher.stage_ended(learner, stage)


def train_stage(learner: Learner, stage: Stage, watcher: Watcher) -> None:
    """Run the remaining steps of a stage."""
    with frozen(learner.model, stage.frozen):
        _train_stage(learner, stage, watcher)


def _train_stage(learner: Learner, stage: Stage, watcher: Watcher) -> None:
    rows = entered(learner, stage)
    stepper = Stepper(learner, rows, make_engine(learner, rows, watcher))
    learner.agree()
    watcher.stage_started(learner, stage)
    learner.model.train()
    with Prefetcher(learner.batch) as prefetcher:
        while learner.steps_left > 0:
            drawn = next_samples(learner, rows, prefetcher)
            context, rate = context_of(learner, stage, drawn, stepper.auxiliaries), rate_of(learner, stage)
            result = stepper.update(drawn, context, watcher.wants_gradients(learner.step))
            learner.before = learner.copy_of_weights() if watcher.wants_gradients(learner.step + 1) else None
            apply_update(learner, rate)
            if drawn.stage_rows and stage.weighed:
                learner.strategy.weighting.after_step(narrowed(context, range(drawn.stage_rows)))
            learner.strategy.curriculum.after_step(learner)
            stepper.auxiliaries.after_step()
            learner.step, learner.stage_step = learner.step + 1, learner.stage_step + 1
            learner.remember_weights()
            watcher.stepped(learner, result, rate)
    learner.data.carry = {}


def entered(learner: Learner, stage: Stage) -> list[Row]:
    """Let every part enter the stage, and return its rows. Rows that the weighting weighs come first."""
    seen, retention = learner.seen(stage), learner.strategy.retention
    for part in learner.parts().values():
        part.enter_stage(seen, learner)
    rows = stage_rows(stage, retention.rows(seen, learner) if retention is not None else [])
    dress = learner.strategy.curriculum.dress
    dressed = [dress(row, seen, learner) if row.coefficient is None else row for row in rows]
    return sorted(dressed, key=lambda row: row.coefficient is not None)


def next_samples(learner: Learner, rows: list[Row], prefetcher: Prefetcher) -> Samples:
    """Return the samples of the current step. If a core is free, start to draw those of the next step."""
    phase = learner.phase_after(0)
    counts, learner.data.carry = apportion(rows, phase.batch, learner.data.carry)
    prefetcher.wait()
    drawn = draw(learner, rows, learner.kept_counts(rows, counts), prefetcher)
    if learner.steps_left > 1 and has_room(learner.device) and learner.phase_after(1) == phase:
        counts, _ = apportion(rows, phase.batch, learner.data.carry)
        coming = DataState(dict(learner.data.counters))
        held = choose(learner, coming, rows, learner.kept_counts(rows, counts)).held()
        prefetcher.prefetch([(row.task, ids, row.images) for row, ids in held if len(ids)])
    return drawn


def rate_of(learner: Learner, stage: Stage) -> float:
    """Return the learning rate of the current step."""
    schedule = learner.training.schedule.of_stage(stage.cycles)
    offset, length = stage.span or (0, stage.steps)
    return stage.rate * learning_rate(learner.training.optimizer.lr, schedule, offset + learner.stage_step, length)


def apply_update(learner: Learner, rate: float) -> None:
    """Update the weights from the gradients in `.grad`: penalty, clipping, optimizer, retention, average."""
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
        group["lr"] = rate * group.get("factor", 1.0)
    learner.optimizer.step()
    learner.optimizer.zero_grad(set_to_none=True)
    if retention is not None:
        retention.after_step(learner, update)
    if learner.average is not None:
        learner.average.update(learner.model)


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()


def context_of(learner: Learner, stage: Stage, drawn: Samples, auxiliaries: Auxiliaries) -> StepContext:
    """Return the context of this step for the parts."""

    def untouched(row: Row, batch: Batch) -> Tensor:
        return learner.sample_losses(Output.of(batch.degraded), batch)

    return StepContext(
        step=learner.step,
        stage=stage.name,
        rows=tuple(row.name for row in drawn.rows),
        counts=tuple(drawn.counts),
        seed=learner.seed,
        losses_again=second_look(learner, drawn, auxiliaries) if learner.strategy.weighting.looks_again else None,
        identity_losses=cache(lambda: _means(learner, drawn, untouched)),
        gathered=partial(drawn.of_all_ranks, ranks=learner.ranks),
    )


@torch.no_grad()
def _means(learner: Learner, drawn: Samples, losses: Callable[[Row, Batch], Tensor]) -> Tensor:
    """Return the mean of `losses` over the samples of each stage row on all ranks, [K] float64."""
    means = []
    for row, batch, count in zip(drawn.rows[: drawn.stage_rows], drawn.batches, drawn.counts, strict=False):
        found = losses(row, batch) if len(batch.ids) > 0 else batch.clean.new_zeros(0)
        means.append(share_of_mean(found, count).double())
    return learner.ranks.sum(torch.stack(means))


def second_look(learner: Learner, drawn: Samples, auxiliaries: Auxiliaries) -> Callable[[], Tensor]:
    """Return a function that computes the losses [K] of the same stage rows under the weights at the time of the call.

    The losses include auxiliary objectives if the weighting sees the sums.
    """

    def again(row: Row, batch: Batch) -> Tensor:
        output = learner.restore(batch)
        losses = learner.sample_losses(output, batch)
        if not auxiliaries.weighed:
            return losses
        return auxiliaries.total(losses, output, row, batch, (0, len(batch.ids)))

    return lambda: _means(learner, drawn, again)


def make_engine(learner: Learner, rows: list[Row], watcher: Watcher) -> RowGradients | None:
    """Return the row-gradient engine of a stage, or `None` if neither a part nor the watcher needs one."""
    wanted = any(watcher.wants_gradients(step) for step in _steps(learner))
    micro_batch = learner.training.micro_batch
    if not rows or (tier_of(learner, rows) == "losses" and not wanted and micro_batch is None):
        return None
    per_row = learner.training.batch / len(rows)
    name: Any = learner.training.engine
    if name == "auto":
        name = choose_engine(per_row, learner.patch) if micro_batch is None else "stream"
    return RowGradients(learner.model, (2 if wanted else 1) * len(rows), name, micro_batch, aside=learner.passes.aside)


def _steps(learner: Learner) -> range:
    assert learner.stage is not None
    return range(learner.step, learner.step + learner.stage.steps - learner.stage_step)
