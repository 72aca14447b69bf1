"""What the terminal shows: progress, tables, descriptions. Nothing is computed here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from cmtl_ir.backbones.sources import PROTOTYPES
from cmtl_ir.config.catalogue import Description
from cmtl_ir.grouping.words import announcement, routing_lines
from cmtl_ir.runs.plan import Prepared
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.grouping import Matrix

console = Console(highlight=False)
UNBOUNDED = 10_000
"""Characters a line, of no screen."""


def say(text: str) -> None:
    """One line."""
    console.print(escape(text), soft_wrap=True)


def show(table: Table) -> None:
    """A table of numbers. One that is too wide for the screen, or for a file, runs over its edge: no number is cut."""
    least = console.measure(table, options=console.options.update(width=UNBOUNDED)).minimum
    if least > console.width:
        table.width = least
    console.print(table, crop=False)


class LiveRuns:
    """One progress bar a run, with its losses and steps per second."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def of_run(self, run: Run) -> RunBar:
        """The bar of a run; says at once what will happen to it."""
        steps = run.identity["training"]["steps"]
        name = f"{run.label} (seed {run.seed})"
        words = {"finished": "finished before: skipped", "killed": "going on from its checkpoint", "new": ""}
        task = self.progress.add_task(escape(name), total=steps, losses=words[run.status])
        if run.status == "finished":
            self.progress.update(task, completed=steps)
        return RunBar(self.progress, task)


class RunBar:
    """The progress of one run."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self.progress, self.task = progress, task

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        """Show the step, its losses and the speed."""
        shown = " ".join(f"{row} {loss:.4f}" for row, loss in losses.items())
        speed = self.progress.tasks[self.task].speed
        self.progress.update(
            self.task, completed=step, losses=escape(f"{speed:.1f} steps/s  {shown}" if speed else shown)
        )


@contextmanager
def live() -> Iterator[LiveRuns]:
    """Progress bars for the runs of a comparison."""
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[losses]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveRuns(progress)


@contextmanager
def counting(verb: str) -> Iterator[Callable[[int, int, Path], None]]:
    """A bar over files."""
    progress = Progress(console=console)
    task = progress.add_task(verb)

    def told(number: int, total: int, file: Path) -> None:
        progress.start()  # not before the first file is done: an error comes without an empty bar
        progress.update(task, completed=number, total=total, description=f"{verb} {escape(file.name)}")

    try:
        yield told
    finally:
        progress.stop()


def dry_run(prepared: Prepared) -> None:
    """Which runs there are, what would happen to each, and what it would take."""
    from cmtl_ir.runs.estimate import estimate

    training = prepared.experiment.training
    table = Table(title=f"{prepared.experiment.name}: {len(prepared.runs)} runs of {training.steps} steps")
    for column in ("strategy", "seed", "state", "samples", "about", "run"):
        table.add_column(column)
    guess = estimate(prepared)
    for run in prepared.runs:
        seconds = f"{guess.seconds(run):.0f} s" if run.status != "finished" else "-"
        samples = f"{training.steps * training.batch:,}"
        table.add_row(escape(run.label), str(run.seed), run.status, samples, seconds, str(run.folder))
    console.print(table)
    for name, task in next(iter(prepared.tasks.values())).items():
        say(f"{name}: {task.size} training images")
    for label, strategy in prepared.experiment.strategies.items():
        if strategy.grouping is not None:
            say(announcement(label, strategy, prepared.experiment))
    total = sum(guess.seconds(run) for run in prepared.runs if run.status != "finished")
    free = shutil.disk_usage(prepared.out if prepared.out.exists() else Path()).free
    say(f"{guess.parameters:,} parameters; about {total / 60:.1f} minutes on {prepared.device} (a few steps timed), ")
    say(f"about {guess.bytes_on_disk / 1e6:.0f} MB on disk ({free / 1e9:.0f} GB free). Nothing was trained.")


def catalogue(found: dict[str, dict[str, str]], guests: dict[str, list[str]], pattern: str) -> None:
    """Names by family, with the first sentence of each; then the names of what other libraries lend."""
    if not found and not guests:
        say(f"nothing matches {pattern!r}")
    for family, names in found.items():
        table = Table(title=family, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in names.items():
            table.add_row(escape(name), escape(line))
        console.print(table)
    if "backbone" in found:
        say("prototypes: " + ", ".join(f"({key}) {meaning}" for key, meaning in PROTOTYPES.items()))
    for library, lent in guests.items():
        say(f"from {library}: {', '.join(lent)}")


def description(what: Description) -> None:
    """Paper, equation, fields, cost."""
    console.print(f"[bold]{escape(what.name)}[/bold] ({what.family})")
    say(what.text)
    if what.facts:
        say(what.facts)
    if what.fields:
        table = Table(box=None, padding=(0, 2))
        for column in ("field", "type", "default", "meaning"):
            table.add_column(column)
        for row in what.fields:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
    if what.cost:
        say(f"cost: {what.cost}")
    say(f"code: {what.where}")


def routing(found: Mapping[str, Any] | None) -> None:
    """Where a grouped run sent the images; nothing for other runs."""
    for line in routing_lines(found) if found is not None else ():
        say(line)


def similarity(matrices: Mapping[str, Matrix], notes: Sequence[str], files: Sequence[Path]) -> None:
    """One table a measure, columns by number so that eleven tasks fit a narrow terminal, and the files."""
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
    """-0.25 as -.25; a dash where nothing was measured."""
    text = "-" if value != value else f"{value:.2f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text
