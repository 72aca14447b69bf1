"""Tables of a search: its trials, Pareto front and importances, and experiment files of the best settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from cmtl_ir.base import yaml
from cmtl_ir.base.escaping import csv_text
from cmtl_ir.base.files import write_whole
from cmtl_ir.search.config import Plan
from cmtl_ir.search.queue import CPU, FREE, REASON

LEAST_TRIALS = 30
"""Minimum number of complete trials for importances. With fewer, the forest of fANOVA fits the noise."""


def leave_tables(plan: Plan, study: Study, folder: Path) -> list[Path]:
    """Write trials.csv, importances.csv, front.csv and one experiment file per best trial, and return their paths."""
    files = [_write(folder / "trials.csv", trial_rows(plan, study))]
    found = importances(plan, study)
    if found:
        rows = [
            {"objective": o, "parameter": p, "importance": v} for o, named in found.items() for p, v in named.items()
        ]
        files.append(_write(folder / "importances.csv", rows))
    best = best_trials(study)
    if len(plan.search.objectives) > 1 and best:
        files.append(_write(folder / "front.csv", [_row(plan, trial) for trial in best]))
    for rank, trial in enumerate(best):
        files.append(_experiment_file(plan, trial, folder / ("winner.yaml" if rank == 0 else f"front-{rank}.yaml")))
    return files


def best_trials(study: Study) -> list[FrozenTrial]:
    """Return the best trial, or the Pareto front sorted by its first objective. Empty if no trial is complete."""
    complete = _complete(study)
    if not complete:
        return []
    if len(study.directions) == 1:
        return [study.best_trial]
    sign = -1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1.0
    return sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))


def importances(plan: Plan, study: Study) -> dict[str, dict[str, float]]:
    """Return the importance of each parameter per objective, for parameters that every trial has.

    The importance is the share of a parameter in the variance of the objective, by fANOVA (Hutter et al., ICML 2014).
    Empty for fewer than `LEAST_TRIALS` complete trials.
    """
    complete = _complete(study)
    common = set.intersection(*(set(trial.params) for trial in complete)) if complete else set()
    if len(complete) < LEAST_TRIALS or not common:
        return {}
    found = {}
    for number, name in enumerate(plan.search.objectives):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found[name] = optuna.importance.get_param_importances(
                    study,
                    evaluator=optuna.importance.FanovaImportanceEvaluator(seed=plan.search.seed),
                    params=sorted(common),
                    target=_objective(number),
                )
            except (ValueError, RuntimeError):  # all trials alike
                continue
    return found


def no_importances(study: Study) -> str:
    """Return why there are no importances: too few trials. Empty if there are enough."""
    complete = len(_complete(study))
    if complete >= LEAST_TRIALS:
        return ""
    return f"importance of the parameters: not estimated, {complete} complete trials are fewer than {LEAST_TRIALS}"


def _complete(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _objective(number: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[number])


def trial_rows(plan: Plan, study: Study) -> list[dict[str, Any]]:
    """Return one row per trial: number, state, objectives, parameters, runs, seconds, reason."""
    wanted = [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]
    names = sorted({name for trial in wanted for name in trial.params})
    return [_row(plan, trial, names) for trial in wanted]


def parameter_names(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of `trial_rows` that are parameters, each choice followed by the ranges in its mappings."""
    columns = list(rows[0]) if rows else []
    return [name for path in plan.space for name in columns if name == path or name.startswith(f"{path}[")]


def _row(plan: Plan, trial: FrozenTrial, names: Sequence[str] | None = None) -> dict[str, Any]:
    values = dict(zip(plan.search.objectives, trial.values or [], strict=False))
    seconds = trial.duration.total_seconds() if trial.duration is not None else ""
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        **{name: values.get(name, "") for name in plan.search.objectives},
        **{name: trial.params.get(name, "") for name in (names if names is not None else trial.params)},
        "runs": " ".join(trial.user_attrs.get("runs", {}).values()),
        "seconds": seconds,
        "cpu_seconds": trial.user_attrs.get(CPU, ""),
        "reason": trial.user_attrs.get(REASON, trial.user_attrs.get(FREE, "")),
    }


def _write(file: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["trial"]
    return write_whole(file, csv_text([columns, *([row.get(name) for name in columns] for row in rows)]))


def _experiment_file(plan: Plan, trial: FrozenTrial, file: Path) -> Path:
    """Write an experiment for `cmtl-ir run`. Its runs are those of the trial, so nothing is trained again."""
    values = plan.values(FixedTrial(trial.params))
    experiment = plan.experiment(values, f"trial-{trial.number:04d}", f"{plan.name}-{file.stem}")
    reached = ", ".join(f"{k} {v:.4g}" for k, v in zip(plan.search.objectives, trial.values, strict=True))
    comment = f"# Trial {trial.number} of the search {plan.name}, on validation images: {reached}\n"
    return write_whole(file, comment + yaml.dump(experiment.resolved()))
