"""The look-ahead of TAG: the effect of a step of one task alone on the losses of all tasks, during a joint run.

The run itself is not disturbed. Weights are restored to the last bit, and no counter moves. K: number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.runs.watching.watcher import RunWatcher
from cmtl_ir.runs.workspace import Progress
from cmtl_ir.store import checkpoint
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.grouping import Array
from cmtl_ir.strategy.output import output_of
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult


class LookAheadWatcher(RunWatcher):
    """Sum Z_{b -> a} over the look-aheads of a run. Its checkpoints hold the learner, so a killed probe resumes."""

    def __init__(
        self, learner: Learner, folder: Path, every: int, kind: str, save_every: int, progress: Progress | None = None
    ) -> None:
        self.learner, self.folder, self.every, self.kind, self.save_every = learner, folder, every, kind, save_every
        self.progress = progress
        self.total = torch.zeros(len(learner.tasks), len(learner.tasks), dtype=torch.float64)
        self.looks = 0

    @property
    def affinity(self) -> Array:
        """Affinities [K, K]: entry (a, b) is the mean of Z_{b -> a}."""
        return (self.total / max(self.looks, 1)).numpy()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """Look ahead and save at the steps where this is due."""
        if learner.step % self.every == 0 and learner.steps_left:
            self.total += look_ahead(learner, rate, self.kind)
            self.looks += 1
        if learner.step % self.save_every == 0 and learner.steps_left:
            self.save()
        if self.progress is not None and learner.step % self.every == 0:
            self.progress.advanced(learner.step, {})

    def save(self) -> None:
        """Write a checkpoint of the run and the sums."""
        tree = {"learner": self.learner.tree(), "total": self.total, "looks": self.looks}
        checkpoint.save(self.folder, tree, step=self.learner.step, keep=1, metadata={"probe": "look-ahead"})

    def load(self) -> None:
        """Resume from the last checkpoint, if there is one."""
        saved = checkpoint.load_latest(self.folder, expect={"probe": "look-ahead"})
        if saved is not None:
            tree: dict[str, Any] = saved.tree
            self.learner.load_tree(tree["learner"])
            self.total, self.looks = tree["total"], tree["looks"]


def look_ahead(learner: Learner, rate: float, kind: str) -> Tensor:
    """Return Z [K, K] in float64, with entry (a, b) = Z_{b -> a} = 1 - l_a(theta_b) / l_a(theta).

    theta_b are the weights after one step along the gradient of task b alone, on the samples that each task draws
    next. With `kind="adam"`, the gradient is divided by the preconditioner of the optimizer. Its momentum is left out
    because it stems from all tasks. With `kind="sgd"`, the step follows the plain gradient and Z is divided by the
    learning rate, as published. Source: Fifty et al., NeurIPS 2021, Eq. 1.
    """
    share = max(1, learner.training.batch // len(learner.tasks))
    batches = [_next_batch(learner, task, share) for task in learner.tasks]
    parameters = learner.trained_parameters()
    before = learner.copy_of_weights()
    losses = _losses(learner, batches)
    rows = []
    for batch in batches:
        with torch.enable_grad():
            loss = _loss_of(learner, batch).mean()
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(_direction(learner, parameter, gradient, kind), alpha=rate)
        rows.append((losses - _losses(learner, batches)) / losses.abs())
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), before)
    z = torch.stack(rows, dim=1)  # [a, b]
    return z / rate if kind == "sgd" else z


def _next_batch(learner: Learner, task: str, count: int) -> Batch:
    """Return the samples that the task draws next, without moving its counter."""
    start = learner.data.counters.get(task, 0)
    return learner.batch(task, torch.arange(start, start + count))


def _loss_of(learner: Learner, batch: Batch) -> Tensor:
    """Return the losses [B] in full precision, because their differences are small."""
    degraded = batch.degraded.to(memory_format=torch.channels_last)
    returned = learner.model(degraded, learner.task_numbers(batch.task, len(batch.ids)))
    return learner.sample_losses(output_of(learner.model, returned), batch)


@torch.no_grad()
def _losses(learner: Learner, batches: Sequence[Batch]) -> Tensor:
    """Return the mean losses of all tasks, [K] float64 on the CPU."""
    return torch.stack([_loss_of(learner, batch).double().mean() for batch in batches]).cpu()


def _direction(learner: Learner, parameter: Tensor, gradient: Tensor, kind: str) -> Tensor:
    state = learner.optimizer.state.get(parameter, {})
    if kind == "sgd" or "exp_avg_sq" not in state:
        return gradient
    group = learner.optimizer.param_groups[0]
    beta, steps = group["betas"][1], float(state["step"]) + 1.0
    second = beta * state["exp_avg_sq"] + (1.0 - beta) * gradient.square()  # a weight without history stays bounded
    return gradient / ((second / (1.0 - beta**steps)).sqrt() + group["eps"])
