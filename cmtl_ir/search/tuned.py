"""Execution of a tuned comparison: all studies, then every strategy at its default and at its best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import FixedTrial, FrozenTrial, TrialState

from cmtl_ir.base.errors import UserError
from cmtl_ir.base.files import write_table
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.search.queue import CPU, PLACE, given_up
from cmtl_ir.search.report import best_trials
from cmtl_ir.search.trials import Found
from cmtl_ir.search.tuning import TUNED, Study, Tuning
from cmtl_ir.store.layout import TUNING


@dataclass(frozen=True)
class Tuned:
    """The finished study of one strategy."""

    study: Study
    found: Found

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that were started."""
        return [one for one in self.found.study.get_trials(deepcopy=False) if one.state != TrialState.WAITING]

    @property
    def best(self) -> FrozenTrial:
        """The best trial. Raises UserError if no trial is complete."""
        best = best_trials(self.found.study)
        if not best:
            reasons = "; ".join(given_up(self.trials, self.study.plan.search.retries).values())
            raise UserError(f"tuning {self.study.label}: no trial is complete ({reasons or 'all were pruned'})")
        return best[0]

    @property
    def values(self) -> dict[str, Any]:
        """Path -> value of the tuned settings at the best trial."""
        found = self.study.plan.values(FixedTrial(self.best.params))
        return {path.removeprefix("strategy."): value for path, value in found.items()}

    def row(self, objective: str) -> dict[str, Any]:
        """Return the strategy's line of tuning.csv."""
        states = [one.state for one in self.trials]
        default = next((one for one in self.trials if one.user_attrs.get(PLACE) == 0 and one.values), None)
        return {
            "strategy": self.study.label,
            "tuned": self.study.label + TUNED,
            "trials": self.study.plan.places,
            "complete": states.count(TrialState.COMPLETE),
            "pruned": states.count(TrialState.PRUNED),
            "failed": states.count(TrialState.FAIL),
            "cpu_seconds": sum(one.user_attrs.get(CPU, 0.0) for one in self.trials),
            "objective": objective,
            "default_score": default.values[0] if default is not None else "",
            "best_score": self.best.values[0],
            "best_trial": self.best.number,
            "default": in_words(self.study.default),
            "best": in_words(self.values),
        }


def comparison_of(tuning: Tuning, tuned: Sequence[Tuned]) -> Experiment:
    """Return the experiment that compares every strategy at its default and at its best, on fresh seeds."""
    return tuning.comparison({one.study.label: one.values for one in tuned})


def write_tuning(tuning: Tuning, tuned: Sequence[Tuned], out: Path) -> Path:
    """Write tuning.csv to the folder of the comparison, which the report reads."""
    folder = out / tuning.experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    rows = [one.row(tuning.config.objective) for one in tuned]
    return write_table(folder / TUNING, list(rows[0]), rows)


def in_words(values: dict[str, Any]) -> str:
    """Return settings as one line, such as `training.optimizer.lr 0.002`."""
    return ", ".join(
        f"{path} {value:.4g}" if isinstance(value, float) else f"{path} {value}" for path, value in values.items()
    )
