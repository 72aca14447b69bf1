"""The terminal, where whatever is printed is text, never markup or a command; and lines where there is no terminal.

Output that is no terminal (a file, SLURM, CI) gets one plain line for each event of a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from typing import Any

from rich.console import Console
from rich.progress import Task, TextColumn
from rich.text import Text

from cmtl_ir.base.escaping import printable
from cmtl_ir.store.run import Run

LOSSES_EVERY = 10.0
"""Seconds between lines of losses with `--verbose`."""


class Terminal(Console):
    """A console without markup: labels, names of files and messages are printed as they are.

    A style is given as `Text(text, style)` or as the `style` of a column or row.
    """

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text of a string, which may be printed, a cell, a heading or a title."""
        return super().render_str(printable(text), **options)


class Words(TextColumn):
    """A column of a progress bar that shows a field of its task as text."""

    def render(self, task: Task) -> Text:
        """Return the field of one task."""
        return Text(printable(self.text_format.format(task=task)), style=self.style, justify=self.justify)


# ------------------------------------------------------------------------------------------------ progress as lines


class Loudness(Enum):
    """How much a command says while it trains."""

    QUIET = "quiet"
    """Results only."""
    NORMAL = "normal"
    """A bar in a terminal, elsewhere a line per event."""
    VERBOSE = "verbose"
    """Also lines of losses; in a terminal, lines above the bar."""


class LineRuns:
    """Lines of the runs of a comparison."""

    def __init__(self, say: Callable[[str], None], loudness: Loudness) -> None:
        self.say, self.loudness = say, loudness

    def of_run(self, run: Run) -> RunLines:
        """Say that a run is skipped, resumed or started, and return its display."""
        lines = RunLines(run, self.say, self.loudness)
        words = {"finished": "finished before: skipped", "killed": "resuming from its checkpoint", "new": "started"}
        lines.skipped = run.status == "finished"
        if self.loudness is not Loudness.QUIET:
            self.say(stamped(f"{lines.name}: {words[run.status]}, {lines.steps} steps, {run.folder}"))
        return lines


class RunLines:
    """Lines of one run: its evaluations, checkpoints and end, with steps per second and the time left."""

    def __init__(self, run: Run, say: Callable[[str], None], loudness: Loudness) -> None:
        self.name, self.steps = f"{run.label} (seed {run.seed})", int(run.identity["training"]["steps"])
        self.say, self.loudness = say, loudness
        self.skipped = False
        """Whether the run was finished before, so that its end was said already."""
        self._first = (0, time.monotonic()) if run.status == "new" else None
        """First step that was seen, and when. `None` before the first step of a run that is resumed."""
        self._step, self._told = 0, time.monotonic()

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        """Remember the step. With `--verbose`, print its losses every few seconds."""
        self._pace(step)
        if self.loudness is Loudness.VERBOSE and losses and time.monotonic() - self._told >= LOSSES_EVERY:
            self._told = time.monotonic()
            self._print(step, "loss " + ", ".join(f"{row} {loss:.4f}" for row, loss in losses.items()))

    def happened(self, step: int | None, what: str) -> None:
        """Print an evaluation, a checkpoint or the end."""
        if step is not None:
            self._pace(step)
        if not self.skipped:
            self._print(step, what)

    def _pace(self, step: int) -> None:
        self._first = self._first or (step, time.monotonic())
        self._step = max(step, self._step)

    def _print(self, step: int | None, what: str) -> None:
        if self.loudness is Loudness.QUIET:
            return
        place = f"step {step}/{self.steps}: " if step is not None else ""
        self.say(stamped(f"{self.name}: {place}{what}{self._speed()}"))

    def _speed(self) -> str:
        """Return steps per second since the display began, evaluations included, and the time left at that speed."""
        done = self._step - self._first[0] if self._first is not None else 0
        if self._first is None or done <= 0:
            return ""
        speed = done / max(time.monotonic() - self._first[1], 1e-9)
        left = f", {duration((self.steps - self._step) / speed)} left" if self._step < self.steps else ""
        return f" ({speed:.3g} steps/s{left})"


def stamped(text: str) -> str:
    """Return a line that begins with date and time."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}"


def duration(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
