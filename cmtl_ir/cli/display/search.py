"""Terminal output on a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress
from rich.table import Column, Table

from cmtl_ir.cli.display import RunBar, console, say, show
from cmtl_ir.cli.terminal import LineRuns, Loudness, Words, stamped
from cmtl_ir.search.config import Plan
from cmtl_ir.search.queue import given_up
from cmtl_ir.search.report import best_trials, importances, no_importances
from cmtl_ir.store.run import Run

SHOWN = 10
"""Maximum number of rows in the table of trials."""


class LiveSearch:
    """Progress bars of the study and of the current run."""

    def __init__(self, progress: Progress, lines: LineSearch | None = None) -> None:
        """`lines` are printed above the bars. `None` prints none."""
        self.progress, self.lines = progress, lines
        self.study = progress.add_task("trials", total=None, losses="")
        self.run = progress.add_task("", total=None, losses="", visible=False)

    def of_run(self, run: Run) -> RunBar:
        """Return the bar of a run of a trial that starts in this process."""
        name = f"{run.label} (seed {run.seed})"
        steps = run.identity["training"]["steps"]
        self.progress.reset(self.run, description=name, total=steps, losses=run.status, visible=True)
        return RunBar(self.progress, self.run, self.lines.of_run(run) if self.lines is not None else None)

    def of_study(self, study: Study, plan: Plan) -> None:
        """Update the bar of the study after trials may have ended."""
        ended, words = _state(study, plan)
        self.progress.update(self.study, completed=ended, total=plan.places, losses=words)
        if self.lines is not None:
            self.lines.of_study(study, plan)


class LineSearch(LineRuns):
    """Lines of the study, one whenever a trial has ended, and of its runs."""

    ended: int | None = None
    """Number of trials that had ended at the last line. `None` before the first line."""

    def of_study(self, study: Study, plan: Plan) -> None:
        """Print the state of the study if trials have ended."""
        ended, words = _state(study, plan)
        if ended != self.ended and self.loudness is not Loudness.QUIET:
            self.say(stamped(f"{plan.name}: {ended}/{plan.places} trials, {words}"))
        self.ended = ended


def _state(study: Study, plan: Plan) -> tuple[int, str]:
    """Return the number of ended trials, and in words how many are at work and which is the best."""
    trials = study.get_trials(deepcopy=False)
    ended = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    best = best_trials(study)
    reached = f"best: trial {best[0].number}, {_values(plan, best[0])}" if best else ""
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    return ended, f"{running} at work  {reached}".rstrip()


def _values(plan: Plan, trial: FrozenTrial) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in zip(plan.search.objectives, trial.values, strict=True))


@contextmanager
def live(loudness: Loudness = Loudness.NORMAL) -> Iterator[LiveSearch | LineSearch]:
    """Show the progress of a search: as bars in a terminal, elsewhere as lines."""
    if loudness is Loudness.QUIET or not console.is_terminal:
        yield LineSearch(say, loudness)
        return
    columns = (
        Words("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        Words("{task.fields[losses]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveSearch(progress, LineSearch(say, loudness) if loudness is Loudness.VERBOSE else None)


def outcome(plan: Plan, study: Study, files: Sequence[Path]) -> dict[int, str]:
    """Print the best trials, importances, failures and files. Return trial -> reason for trials that were given up."""
    trials = study.get_trials(deepcopy=False)
    counted = [f"{sum(t.state == state for t in trials)} {state.name.lower()}" for state in TrialState]
    best, several = best_trials(study), len(plan.search.objectives) > 1
    ranked = best if several else sorted(_complete(trials), key=lambda t: t.values[0], reverse=_upwards(plan))
    table = Table(title=f"{plan.name}: {'Pareto front' if several else 'best trials'}", box=SIMPLE_HEAD)
    for column in ("trial", *plan.search.objectives, "setting"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for trial in ranked[:SHOWN]:
        setting = "  ".join(f"{name}={_short(value)}" for name, value in trial.params.items())
        table.add_row(str(trial.number), *(f"{value:.4g}" for value in trial.values), setting)
    show(table)
    for objective, named in importances(plan, study).items():
        shares = ", ".join(f"{name} {share:.2f}" for name, share in named.items())
        say(f"share of the variance of {objective} (fANOVA): {shares}")
    if lacking := no_importances(study):
        say(lacking)
    say(f"trials: {', '.join(counted)}; scores are means over tasks and seeds, on validation images")
    failed = given_up(trials, plan.search.retries)
    for number, reason in failed.items():
        say(f"trial {number}: {reason}")
    say("look at:")
    for file in files:
        say(f"  {file}")
    return {n: reason for n, reason in failed.items() if trials[n].state == TrialState.FAIL}


def plan(what: Plan) -> None:
    """Print what would be searched."""
    search = what.search
    seeds = what.raw.get("seeds", [0])
    say(f"{what.name}: {what.places} trials of {len(seeds)} run(s), study in {search.storage}")
    say(f"  for {', '.join(f'{name} ({way})' for name, way in search.objectives.items())}")
    for path, parameter in what.space.items():
        say(f"  {path}: {parameter}")
    say("Nothing was trained.")


def _complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def _upwards(plan: Plan) -> bool:
    return next(iter(plan.search.objectives.values())) == "maximize"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
