"""Progress of a run that another process trains, read from the journal of the run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cmtl_ir.processes.job import Job
from cmtl_ir.runs.execution import FINISHED
from cmtl_ir.runs.watching.announcing import CHECKPOINT, evaluated
from cmtl_ir.runs.workspace import Progress, ProgressOf
from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import has_result
from cmtl_ir.store.layout import CHECKPOINTS, JOURNAL
from cmtl_ir.store.run import Run


class Tail:
    """Reader of new complete lines in a file that another process extends, truncates or replaces."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0

    def lines(self) -> list[bytes]:
        """Return the complete lines that were added since the last call."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, 2) < self.place:
                    self.place = 0
                file.seek(self.place)
                new = file.read()
        except OSError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self.place += len(whole)
        return whole.splitlines()


class JournalFollower:
    """Show the progress of a run from its journal and its folder."""

    def __init__(self, run: Run, progress: ProgressOf) -> None:
        self.run, self.make = run, progress
        self.progress: Progress | None = None
        self.tail = Tail(run.folder / JOURNAL)
        self._saved = checkpoint.newest_step(run.folder / CHECKPOINTS)
        self._evaluated = self._saved or 0
        self._ended = has_result(run.folder)

    def follow(self, job: Job) -> None:
        """Look whenever the pool looks after a job, and show its failure."""
        job.look, job.failed = self.look, self.failed

    def look(self) -> None:
        """Show the evaluations, the newest losses, the newest checkpoint and the end, if they are new."""
        progress = self.progress = self.progress or self.make(self.run)
        losses: tuple[int, dict[str, float]] | None = None
        for step, metrics in self._entries():
            named = {name: value for name, value in metrics.items() if value is not None and name != "psnr/mean"}
            if psnr := {name.removeprefix("psnr/"): v for name, v in named.items() if name.startswith("psnr/")}:
                if step > self._evaluated:
                    progress.happened(step, evaluated(psnr))
                self._evaluated = max(step, self._evaluated)
            if found := {name.removeprefix("loss/"): v for name, v in named.items() if name.startswith("loss/")}:
                losses = step, found
        if losses is not None:
            progress.advanced(*losses)
        saved = checkpoint.newest_step(self.run.folder / CHECKPOINTS)
        if saved is not None and saved != self._saved:
            progress.happened(saved, CHECKPOINT)
        self._saved = saved
        if not self._ended and has_result(self.run.folder):
            self._ended = True
            progress.happened(None, FINISHED)

    def failed(self, reason: str) -> None:
        """Show why the run failed."""
        if self.progress is not None:
            self.progress.happened(None, f"failed: {reason}")

    def _entries(self) -> Iterator[tuple[int, dict[str, float | None]]]:
        for line in self.tail.lines():
            try:
                entry = json.loads(line)
                yield entry["step"], entry["metrics"]
            except (ValueError, KeyError):
                continue
