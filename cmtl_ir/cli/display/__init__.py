"""Terminal output: progress, tables, descriptions. Nothing is computed here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from cmtl_ir.backbones.sources import PROTOTYPES
from cmtl_ir.cli.terminal import LineRuns, Loudness, RunLines, Terminal, Words
from cmtl_ir.config.catalogue import Description
from cmtl_ir.config.own_training import in_words
from cmtl_ir.grouping.words import announcement, routing_lines
from cmtl_ir.runs.plan import Prepared
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.grouping import Matrix

console = Terminal()
UNBOUNDED = 10_000
"""Characters per line that no screen has."""


def say(text: str) -> None:
    """Print one line."""
    console.print(text, soft_wrap=True)


def show(table: Table) -> None:
    """Print a table of numbers. A table that is too wide for the screen overflows, so that no number is cut."""
    least = console.measure(table, options=console.options.update(width=UNBOUNDED)).minimum
    if least > console.width:
        table.width = least
    console.print(table, crop=False)


class LiveRuns:
    """Progress bars, one per run, with losses and steps per second."""

    def __init__(self, progress: Progress, lines: LineRuns | None = None) -> None:
        """`lines` are printed above the bars. `None` prints none."""
        self.progress, self.lines = progress, lines

    def of_run(self, run: Run) -> RunBar:
        """Return the bar of a run, labelled with whether the run is skipped, resumed or new."""
        steps = run.identity["training"]["steps"]
        name = f"{run.label} (seed {run.seed})"
        words = {"finished": "finished before: skipped", "killed": "resuming from its checkpoint", "new": ""}
        task = self.progress.add_task(name, total=steps, losses=words[run.status])
        if run.status == "finished":
            self.progress.update(task, completed=steps)
        return RunBar(self.progress, task, self.lines.of_run(run) if self.lines is not None else None)


class RunBar:
    """The progress bar of one run."""

    def __init__(self, progress: Progress, task: Any, lines: RunLines | None = None) -> None:
        """`lines` are printed above the bar. `None` prints none."""
        self.progress, self.task, self.lines = progress, task, lines

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        """Show the step, its losses and the speed."""
        shown = " ".join(f"{row} {loss:.4f}" for row, loss in losses.items())
        speed = self.progress.tasks[self.task].speed
        self.progress.update(self.task, completed=step, losses=f"{speed:.1f} steps/s  {shown}" if speed else shown)
        if self.lines is not None:
            self.lines.advanced(step, losses)

    def happened(self, step: int | None, what: str) -> None:
        """Print what happened above the bar, if lines are asked for."""
        if self.lines is not None:
            self.lines.happened(step, what)


@contextmanager
def live(loudness: Loudness = Loudness.NORMAL) -> Iterator[LiveRuns | LineRuns]:
    """Show the progress of the runs of a comparison: as bars in a terminal, elsewhere as lines."""
    if loudness is Loudness.QUIET or not console.is_terminal:
        yield LineRuns(say, loudness)
        return
    columns = (
        Words("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        Words("{task.fields[losses]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveRuns(progress, LineRuns(say, loudness) if loudness is Loudness.VERBOSE else None)


@contextmanager
def counting(verb: str) -> Iterator[Callable[[int, int, Path], None]]:
    """Show a progress bar over files, and yield a function that advances it."""
    columns = (Words("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    task = progress.add_task(verb)

    def advance(number: int, total: int, file: Path) -> None:
        progress.start()  # only after the first file, so that an error does not follow an empty bar
        progress.update(task, completed=number, total=total, description=f"{verb} {file.name}")

    try:
        yield advance
    finally:
        progress.stop()


def dry_run(prepared: Prepared) -> None:
    """Print the runs, what would happen to each, and the time and space needed."""
    from cmtl_ir.config.progressive import samples_of
    from cmtl_ir.runs.estimate import estimate
    from cmtl_ir.runs.rescoring import trained_alike

    training = prepared.experiment.training
    table = Table(title=f"{prepared.experiment.name}: {len(prepared.runs)} runs of {training.steps} steps")
    for column in ("strategy", "seed", "state", "samples", "about", "run"):
        table.add_column(column)
    guess = estimate(prepared)
    again = {run.name for run in prepared.runs if run.status == "new" and trained_alike(run) is not None}
    for run in prepared.runs:
        waiting = run.status != "finished" and run.name not in again
        seconds = f"{guess.seconds(run):.0f} s" if waiting else "-"
        state = "trained, to be scored" if run.name in again else run.status
        own = run.identity["training"]
        samples = f"{samples_of(own):,}"
        table.add_row(run.label, str(run.seed), state, samples, seconds, str(run.folder))
    console.print(table)
    for name, task in next(iter(prepared.tasks.values())).items():
        say(f"{name}: {task.size} training images")
    for label, strategy in prepared.experiment.strategies.items():
        if strategy.training:
            say(f"{label}: own training: {in_words(strategy.training)}")
        if strategy.grouping is not None:
            say(announcement(label, strategy, prepared.experiment))
    total = sum(guess.seconds(run) for run in prepared.runs if run.status != "finished" and run.name not in again)
    free = shutil.disk_usage(prepared.out if prepared.out.exists() else Path()).free
    say(f"{guess.parameters:,} parameters; about {total / 60:.1f} minutes on {prepared.device} (a few steps timed), ")
    say(f"about {guess.bytes_on_disk / 1e6:.0f} MB on disk ({free / 1e9:.0f} GB free). Nothing was trained.")


def catalogue(found: dict[str, dict[str, str]], guests: dict[str, list[str]], pattern: str) -> None:
    """Print names by family with the first sentence of each, and the names provided by other libraries."""
    if not found and not guests:
        say(f"nothing matches {pattern!r}")
    for family, names in found.items():
        table = Table(title=family, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in names.items():
            table.add_row(name, line)
        console.print(table)
    if "backbone" in found:
        say("prototypes: " + ", ".join(f"({key}) {meaning}" for key, meaning in PROTOTYPES.items()))
    for library, lent in guests.items():
        say(f"from {library}: {', '.join(lent)}")


def description(what: Description) -> None:
    """Print paper, equation, fields and cost."""
    console.print(Text.assemble((what.name, "bold"), f" ({what.family})"))
    say(what.text)
    if what.facts:
        say(what.facts)
    if what.fields:
        table = Table(box=None, padding=(0, 2))
        for column in ("field", "type", "default", "meaning"):
            table.add_column(column)
        for row in what.fields:
            table.add_row(*row)
        console.print(table)
    if what.cost:
        say(f"cost: {what.cost}")
    say(f"code: {what.where}")


def routing(found: Mapping[str, Any] | None) -> None:
    """Print where a grouped run sent the images. `None`, for other runs, prints nothing."""
    for line in routing_lines(found) if found is not None else ():
        say(line)


def similarity(matrices: Mapping[str, Matrix], notes: Sequence[str], files: Sequence[Path]) -> None:
    """Print one table per measure, and the files. Columns are numbered, so that 11 tasks fit a narrow terminal."""
    for one in matrices.values():
        unit, scale = one.unit()
        say(f"{one.title}{scale}: {one.meaning}")
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        for number in range(len(one.tasks)):
            table.add_column(str(number + 1), justify="right", no_wrap=True)
        for number, (task, row) in enumerate(zip(one.tasks, one.values / unit, strict=True)):
            table.add_row(f"{number + 1} {task}", *(_short(value) for value in row))
        show(table)
    for line in [*notes, "look at:", *(f"  {file}" for file in files)]:
        say(line)


def _short(value: float) -> str:
    """Format -0.25 as -.25, and NaN as a dash."""
    text = "-" if value != value else f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
