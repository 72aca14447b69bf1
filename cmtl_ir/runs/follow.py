"""Show the progress of a run that another process trains: its journal says how far it is."""

from __future__ import annotations

import json
from pathlib import Path

from cmtl_ir.runs.workspace import Progress, ProgressOf
from cmtl_ir.store.layout import JOURNAL
from cmtl_ir.store.run import Run


class Tail:
    """New whole lines of a file that another process appends to, cuts back or replaces."""

    def __init__(self, path: Path) -> None:
        self.path, self.place = path, 0

    def lines(self) -> list[bytes]:
        """What was added since the last call."""
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
    """Shows the progress of a run from its journal."""

    def __init__(self, run: Run, progress: ProgressOf) -> None:
        self.run, self.make = run, progress
        self.progress: Progress | None = None
        self.tail = Tail(run.folder / JOURNAL)

    def look(self) -> None:
        """Show what is new."""
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
