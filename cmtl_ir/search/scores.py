"""Scores of a trial on validation images: final ones and, for the pruner, intermediate ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import Trial

from cmtl_ir.base.errors import Pruned
from cmtl_ir.measures.continual import forgetting_curve
from cmtl_ir.measures.scale import PSNR
from cmtl_ir.search.config import Plan


def score(name: str, curve: Sequence[dict[str, Any]]) -> float:
    """Return an objective from the validation scores of a curve so far."""
    return SCORES[name]([point["val"]["psnr"] for point in curve])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _forgetting(points: Sequence[dict[str, float]]) -> float:
    """Return the mean forgetting. It is 0 at the first evaluation, because the pruner needs a number to compare."""
    if len(points) == 1:
        return 0.0
    return float(forgetting_curve([list(point.values()) for point in points], PSNR)[-1].mean())


SCORES: dict[str, Callable[[Sequence[dict[str, float]]], float]] = {
    "mean_psnr": lambda points: _mean(list(points[-1].values())),
    "worst_psnr": lambda points: min(points[-1].values()),
    "forgetting_db": _forgetting,
}
"""Objective -> function of the validation PSNR [{task: dB}] of all evaluations so far.

forgetting_db is the best PSNR at an earlier evaluation minus the current one, as a mean over tasks.
"""


def scores_of(result: dict[str, Any]) -> dict[str, float]:
    """Return all objectives of a finished run."""
    found = {name: score(name, result["curve"]) for name in SCORES}
    return {**found, "seconds_per_step": seconds_of(result) / result["steps"]}


def seconds_of(result: Mapping[str, Any]) -> float:
    """Return the time of all optimizer steps of a run: between CUDA events, or else CPU seconds of the process.

    Wall time also depends on what else the machine does, and is taken only for runs without any of these.
    """
    clocks = (result.get(name) for name in ("step_cuda_seconds", "step_cpu_seconds", "step_seconds", "seconds"))
    return next(float(seconds) for seconds in clocks if seconds is not None)


class Report:
    """Report one run of a trial to the pruner, and ask the pruner whether to stop it."""

    def __init__(self, trial: Trial, plan: Plan, steps: int, before: list[dict[str, float]]) -> None:
        self.trial, self.plan, self.steps, self.before = trial, plan, steps, before
        self.name = next(iter(plan.search.objectives))
        self.wanted = plan.search.pruner is not None
        self.reported: set[int] = set()

    def at_evaluation(self, curve: list[dict[str, Any]]) -> None:
        """Report the mean over the seeds so far, including the current one. Raise Pruned if the trial is to stop."""
        if not self.wanted or self.plan.search.reports != "steps":
            return
        self._report(curve)
        if curve[-1]["step"] < self.steps and self.trial.should_prune():
            raise Pruned(f"the pruner gave up trial {self.trial.number} at step {curve[-1]['step']}")

    def _report(self, curve: list[dict[str, Any]]) -> None:
        for end in range(1, len(curve) + 1):
            step = len(self.before) * self.steps + curve[end - 1]["step"]
            values = [*(one[self.name] for one in self.before), score(self.name, curve[:end])]
            if step not in self.reported:
                self.trial.report(sum(values) / len(values), step)
                self.reported.add(step)

    def at_the_end(self, result: dict[str, Any], scores: list[dict[str, float]], last: bool) -> None:
        """Report the scores of a finished run that were not reported during training, or its final score.

        Raises TrialPruned if the pruner sees one score per seed and stops the trial.
        """
        if not self.wanted:
            return
        if self.plan.search.reports == "steps":
            self._report(result["curve"])
            return
        self.trial.report(scores[-1][self.name], len(scores) - 1)
        if not last and self.trial.should_prune():
            raise optuna.TrialPruned(f"the pruner gave up trial {self.trial.number} after {len(scores)} seeds")
