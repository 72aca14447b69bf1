"""TAG's look-ahead: during a joint run, what a step of one task alone would do to the loss of every other.

The run itself is not disturbed: weights are put back to the last bit, no counter moves. Legend: K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cmtl_ir.runs.watching import RunWatcher
from cmtl_ir.runs.workspace import Progress
from cmtl_ir.store import checkpoint
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.grouping import Array
from cmtl_ir.strategy.output import output_of
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult

LookAhead = Literal["adam", "sgd"]


class LookAheadWatcher(RunWatcher):
    """Sums Z_{b -> a} over the looks of a run; its checkpoints hold the learner, so that a killed probe goes on."""

    def __init__(
        self, learner: Learner, folder: Path, every: int, kind: str, save_every: int, progress: Progress | None = None
    ) -> None:
        self.learner, self.folder, self.every, self.kind, self.save_every = learner, folder, every, kind, save_every
        self.progress = progress
        self.total = torch.zeros(len(learner.tasks), len(learner.tasks), dtype=torch.float64)
        self.looks = 0

    @property
    def affinity(self) -> Array:
        """[K, K]: entry a, b is the mean of Z_{b -> a}."""
        return (self.total / max(self.looks, 1)).numpy()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """Look ahead, and save, where it is due."""
        if learner.step % self.every == 0 and learner.steps_left:
            self.total += look_ahead(learner, rate, self.kind)
            self.looks += 1
        if learner.step % self.save_every == 0 and learner.steps_left:
            self.save()
        if self.progress is not None and learner.step % self.every == 0:
            self.progress.advanced(learner.step, {})

    def save(self) -> None:
        """A checkpoint of run and sums."""
        tree = {"learner": self.learner.tree(), "total": self.total, "looks": self.looks}
        checkpoint.save(self.folder, tree, step=self.learner.step, keep=1, metadata={"probe": "look-ahead"})

    def load(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        saved = checkpoint.load_latest(self.folder, expect={"probe": "look-ahead"})
        if saved is not None:
            tree: dict[str, Any] = saved.tree
            self.learner.load_tree(tree["learner"])
            self.total, self.looks = tree["total"], tree["looks"]


def look_ahead(learner: Learner, rate: float, kind: str) -> Tensor:
    """[K, K] float64: entry a, b is Z_{b -> a} = 1 - l_a(theta_b) / l_a(theta) (Fifty et al., NeurIPS 2021, Eq. 1).

    theta_b: one step along the gradient of task b alone, on the samples that each task draws next. `adam`: under the
    optimizer's preconditioner, its momentum left out, since that is the other tasks' too; `sgd`: the plain gradient,
    and Z is divided by the rate, as published.
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
    """The samples that the task draws next; looking moves no counter."""
    start = learner.data.counters.get(task, 0)
    return learner.batch(task, torch.arange(start, start + count))


def _loss_of(learner: Learner, batch: Batch) -> Tensor:
    """[B] in full precision: differences of losses are small."""
    degraded = batch.degraded.to(memory_format=torch.channels_last)
    returned = learner.model(degraded, learner.task_numbers(batch.task, len(batch.ids)))
    return learner.sample_losses(output_of(learner.model, returned), batch)


@torch.no_grad()
def _losses(learner: Learner, batches: Sequence[Batch]) -> Tensor:
    """[K] float64 on the CPU."""
    return torch.stack([_loss_of(learner, batch).double().mean() for batch in batches]).cpu()


def _direction(learner: Learner, parameter: Tensor, gradient: Tensor, kind: str) -> Tensor:
    state = learner.optimizer.state.get(parameter, {})
    if kind == "sgd" or "exp_avg_sq" not in state:
        return gradient
    group = learner.optimizer.param_groups[0]
    beta, steps = group["betas"][1], float(state["step"]) + 1.0
    second = beta * state["exp_avg_sq"] + (1.0 - beta) * gradient.square()  # a weight without history stays bounded
    return gradient / ((second / (1.0 - beta**steps)).sqrt() + group["eps"])
