"""Progress of a run that another process trains, read from the journal of the run."""

from __future__ import annotations

import json
from pathlib import Path

from cmtl_ir.runs.workspace import Progress, ProgressOf
from cmtl_ir.store.layout import JOURNAL
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
    """Show the progress of a run from its journal."""

    def __init__(self, run: Run, progress: ProgressOf) -> None:
        self.run, self.make = run, progress
        self.progress: Progress | None = None
        self.tail = Tail(run.folder / JOURNAL)

    def look(self) -> None:
        """Show the newest losses in the journal, if any were added."""
        if self.progress is None:
            self.progress = self.make(self.run)
        for line in reversed(self.tail.lines()):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            losses = {n.removeprefix("loss/"): v for n, v in entry["metrics"].items() if n.startswith("loss/")}
            if losses and None not in losses.values():
                self.progress.advanced(entry["step"], losses)
                return
