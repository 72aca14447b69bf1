"""Scoring of a run: every evaluation adds a point to its curve, and a search may prune the run after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cmtl_ir.base.errors import Pruned
from cmtl_ir.measures import curve as curves
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.runs.watching.logs import Sink
from cmtl_ir.runs.watching.watcher import Cadence, Curve, Judge, RunWatcher
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult

Scored = TypeVar("Scored")


class Scoring(RunWatcher):
    """Score every task at the steps where this is due and at the ends of stages."""

    def __init__(self, learner: Learner, evaluator: Evaluator, cadence: Cadence, sink: Sink) -> None:
        self.learner, self.evaluator, self.cadence, self.sink = learner, evaluator, cadence, sink
        self.validator = evaluator.validation()
        self.curve: Curve = []
        self.scores: list[dict[str, Any]] = []
        """Rows of the last evaluation, one per test image."""

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        if self.cadence.evaluates(learner):
            self.evaluate(stage_end=None)

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self.evaluate(stage_end=stage.name)

    def evaluate(self, stage_end: str | None) -> None:
        """Add a point to the curve.

        `stage_end` is the name of the stage that has ended, whose point is a row of R. `None` is within a stage.
        """
        self.scores, validation = self._scored()
        learner, scales = self.learner, self.evaluator.scales
        self.curve.append(curves.point(learner.step, stage_end, self.scores, validation, scales))
        stages = learner.finished if learner.stage is None else (*learner.finished, learner.stage)
        self.sink.log(learner.step, curves.logged(self.curve, stages, scales))

    def _scored(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the rows of test images and those of validation images, which may be empty."""
        return self._under_evaluated(lambda: (self.evaluator.scores(self.learner.model), self._on_validation()))

    def _under_evaluated(self, score: Callable[[], Scored]) -> Scored:
        """Return what `score` returns while the model has the evaluated weights."""
        model = self.learner.model
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.learner.evaluated_weights())
        try:
            return score()
        finally:
            model.load_state_dict(own)

    def _on_validation(self) -> list[dict[str, Any]]:
        return self.validator.scores(self.learner.model) if self.validator is not None else []

    def validated(self) -> list[dict[str, Any]]:
        """Return the rows of validation images under the evaluated weights. Empty if there are no such images."""
        return self._under_evaluated(self._on_validation)

    def state(self) -> dict[str, Any]:
        return {"curve": self.curve, "scores": self.scores}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.curve, self.scores = state["curve"], state["scores"]


class Judging(RunWatcher):
    """Show the curve to a judge after every evaluation. A run that the judge prunes is saved first."""

    def __init__(self, scoring: Scoring, judge: Judge, save: Callable[[], None]) -> None:
        self.scoring, self.judge, self.save = scoring, judge, save

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        if self.scoring.cadence.evaluates(learner):
            self._ask()

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self._ask()

    def _ask(self) -> None:
        try:
            self.judge(self.scoring.curve)
        except Pruned:
            self.save()
            raise
