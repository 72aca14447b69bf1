"""Watchers of a run during training. Each concern has its own watcher, whose hooks do nothing by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cmtl_ir.config.experiment import Experiment
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult

Curve = list[dict[str, Any]]
"""One point per evaluation: step, stage_end, psnr and ssim by task."""
Judge = Callable[[Curve], None]
"""Called with the curve after every evaluation. It may raise Pruned."""


class RunWatcher:
    """A training.loop.Watcher with state in checkpoints. Base of one concern of a run, such as logging or saving."""

    def wants_gradients(self, step: int) -> bool:
        """Return whether the row gradients of this step are needed."""
        return False

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        """Called before the first step of a stage, and before the first step after resuming within it."""

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """Called after every step. `learner.step` already counts it."""

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        """Called after the last step of a stage, when the stage has joined the history."""

    def before_save(self) -> None:
        """Called before a checkpoint is written. It may raise an error to prevent this."""

    def state(self) -> dict[str, Any]:
        """Return the state of this watcher for a checkpoint."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint. `state` is that of all watchers."""


@dataclass(frozen=True)
class Cadence:
    """Intervals in steps at which a run is scored, logged and saved. With 0, only the ends of stages count."""

    evaluation: int
    conflict: int
    checkpoint: int
    minutes: float | None
    """Longest time between checkpoints in minutes. With `None`, only the interval in steps counts."""
    keep: int
    """Number of newest checkpoints to keep."""

    @classmethod
    def of(cls, experiment: Experiment) -> Cadence:
        """Return the cadence that an experiment configures."""
        saving = experiment.checkpoint
        return cls(experiment.evaluation.every, experiment.conflict.every, saving.every, saving.minutes, saving.keep)

    def logs_conflict(self, step: int) -> bool:
        """Return whether the conflict of this step is logged."""
        return self.conflict > 0 and step % self.conflict == 0

    def evaluates(self, learner: Learner) -> bool:
        """Return whether an evaluation is due after the last step. The ends of stages are scored in any case."""
        return self.evaluation > 0 and learner.step % self.evaluation == 0 and not at_stage_end(learner)


def at_stage_end(learner: Learner) -> bool:
    """Return whether the last step was the last of its stage."""
    return learner.stage is not None and learner.stage_step == learner.stage.steps
