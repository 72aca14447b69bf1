"""The workspace of runs: their folder, device, tracking, processes and progress display."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cmtl_ir.base.files import check_folder
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.store import Tracking


class Progress(Protocol):
    """A display of the progress of one run."""

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        """Show the step and the losses. Called after every logging interval and evaluation."""

    def happened(self, step: int | None, what: str) -> None:
        """Show an evaluation, a checkpoint, or the end of the run, in words. `None` is for what has no step."""


ProgressOf = Callable[[Run], Progress]


@dataclass(frozen=True)
class Workspace:
    """Settings that a command passes to everything that it runs."""

    out: Path
    """Folder of the runs and of the comparisons."""
    device: str
    """Device of the runs: auto, cpu, cuda, cuda:1 ..."""
    tracking: Tracking
    workers: int = 1
    """Number of runs trained at once. With more than one, each has its own process."""
    ray: str | None = None
    """Address of the Ray cluster that trains the runs, or `local`; `None` trains them on this machine."""
    progress: ProgressOf | None = None
    """Makes the progress bar of a run; `None` shows none."""

    @classmethod
    def at(
        cls,
        out: str | Path = "runs",
        device: str = "auto",
        tracking_uri: str | None = None,
        workers: int = 1,
        ray: str | None = None,
        progress: ProgressOf | None = None,
    ) -> Workspace:
        """Return the workspace in a folder. `tracking_uri` is the tracking store. `None` takes the one in `out`.

        Raise UserError if the folder cannot be made or written to.
        """
        check_folder(Path(out), "--out")
        return cls(Path(out), device, Tracking(tracking_uri, Path(out)), workers, ray, progress)

    @property
    def parallel(self) -> bool:
        """Whether runs are trained in other processes."""
        return self.workers > 1 or self.ray is not None

    def bar(self, run: Run) -> Progress | None:
        """Return the progress bar of a run. `None` if none is shown."""
        return self.progress(run) if self.progress is not None else None
