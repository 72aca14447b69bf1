"""Relearning: the number of steps that bring a forgotten task back. A task that was only hidden returns at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.config.experiment import Experiment, TrainingConfig
from cmtl_ir.config.reading import merged, neutral
from cmtl_ir.runs.watching.watcher import RunWatcher
from cmtl_ir.strategy.data import Row, Stage
from cmtl_ir.strategy.unlearning import Descent, Program, Request
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.unlearning.probe import probe_psnr

TOLERANCE_DB = 0.5
"""A task counts as relearnt when its PSNR is within this distance of the original."""


SHARE = 10
"""The probe is measured at steps that are at most 1 / SHARE of themselves apart, and at each of the first ones."""


def is_checked(step: int) -> bool:
    """Return whether the probe is measured after this step. The number of steps is then known to about 10 %."""
    return step % max(1, step // SHARE) == 0


@dataclass(frozen=True)
class Relearning:
    """The course of relearning the forgotten tasks."""

    curve: list[tuple[int, float]]
    """(step, PSNR in dB on the probe), from step 0 until it is relearnt or the budget is spent."""
    target: float
    """PSNR in dB at which it counts as relearnt."""

    @property
    def steps(self) -> int | None:
        """Number of steps until it was relearnt. `None` if the budget was too small."""
        step, psnr = self.curve[-1]
        return step if psnr >= self.target else None


class Relearn(Descent):
    """Train on the forgotten tasks alone, at a constant learning rate, until they are relearnt."""

    steps: int = Field(100, ge=0)
    """Largest number of steps."""
    target: float
    """PSNR in dB on the probe at which training stops."""

    def rows(self, stage: Stage, learner: Any) -> list[Row]:
        """Return the one row of losses that descends on L_forget."""
        return self.pooled("forget", 1.0)

    def look(self, learner: Any, step: int) -> bool:
        """Add a point to the curve and return whether the tasks are relearnt."""
        psnr = probe_psnr(learner, self.request.forget)
        self.state.setdefault("curve", []).append([step, psnr])
        return psnr >= self.target

    def after_step(self, learner: Any, update: Tensor | None) -> None:
        """End the stage as soon as the tasks are relearnt."""
        if is_checked(learner.step + 1) and self.look(learner, learner.step + 1):
            learner.end_stage_now()


def relearning(
    experiment: Experiment, tasks: Mapping[str, Task], weights: Mapping[str, Tensor], seed: int, device: torch.device,
    forget: Sequence[str], target: float, budget: int,
) -> Relearning:  # fmt: skip
    """Train `weights` on the forgotten tasks until their PSNR on the probe is `target` dB, for at most `budget` steps.

    The draws, their order and the learning rate are the same for every model of a seed. A model that has forgotten
    nothing takes 0 steps.
    """
    method = Relearn(steps=budget, target=target)
    method.ask(Request(tuple(forget), ()))
    shared = experiment.training.model_copy(update={"progressive": None}).model_dump(mode="json")
    training = TrainingConfig.model_validate(merged(shared, method.recipe()))
    program = neutral().model_copy(update={"curriculum": Program.of(method.stages()), "retention": method})
    learner = Learner(experiment.model_copy(update={"training": training}), program, tasks, seed, device)
    learner.model.load_state_dict(dict(weights))
    part = learner.strategy.retention
    assert isinstance(part, Relearn)
    if not part.look(learner, 0):
        train(learner, RunWatcher())
    return Relearning([(int(step), float(psnr)) for step, psnr in part.state["curve"]], target)
