"""What watches a run while it is trained: each concern is a watcher of its own, whose hooks do nothing by default."""

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
"""Is shown the curve after every evaluation; may raise Pruned."""


class RunWatcher:
    """One concern of a run, as logging, scoring or saving; a training.loop.Watcher with a part in the checkpoints."""

    def wants_gradients(self, step: int) -> bool:
        """Whether the row gradients of this step are wanted."""
        return False

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        """Before the first step of a stage, or before the first after a resume within it."""

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """After every step; `learner.step` counts it already."""

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        """After a stage's last step, when the stage has joined the history."""

    def before_save(self) -> None:
        """Before a checkpoint is written; may raise to prevent it."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of this watcher."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint; `state` is that of all watchers."""


@dataclass(frozen=True)
class Cadence:
    """How often a run is scored, logged and saved, in steps; 0: never, beyond the ends of stages."""

    evaluation: int
    conflict: int
    checkpoint: int
    minutes: float | None
    """Age at which a checkpoint is followed by the next, whatever the steps; `None`: steps alone count."""
    keep: int
    """How many of the newest checkpoints are kept."""

    @classmethod
    def of(cls, experiment: Experiment) -> Cadence:
        """The cadence that an experiment asks for."""
        saving = experiment.checkpoint
        return cls(experiment.evaluation.every, experiment.conflict.every, saving.every, saving.minutes, saving.keep)

    def logs_conflict(self, step: int) -> bool:
        """Whether the row gradients of this step are logged."""
        return self.conflict > 0 and step % self.conflict == 0

    def evaluates(self, learner: Learner) -> bool:
        """Whether the run is scored after the last step; the ends of stages are scored in any case."""
        return self.evaluation > 0 and learner.step % self.evaluation == 0 and not at_stage_end(learner)


def at_stage_end(learner: Learner) -> bool:
    """Whether the last step was the last of its stage."""
    return learner.stage is not None and learner.stage_step == learner.stage.steps
