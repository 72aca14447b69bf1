"""Execution of a run, whatever trains it: lock, tracking, cleanup after killed processes, and final status."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import Any

import torch
from filelock import Timeout

from cmtl_ir.base.environment import environment
from cmtl_ir.base.errors import Diverged, TrainingError, UserError, brief, lacks_memory
from cmtl_ir.base.files import sweep
from cmtl_ir.base.ranks import SKIP, current
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.tracked import images_of, note_of
from cmtl_ir.runs.watching.watcher import Judge
from cmtl_ir.runs.workspace import Progress, Workspace
from cmtl_ir.store.folder import lock_of, write_config, write_diverged
from cmtl_ir.store.layout import DIVERGED, RESULT
from cmtl_ir.store.run import Run
from cmtl_ir.tracking.store import NOTE, RunTracker

FINISHED = "finished"
"""What a display is told at the end of a run."""
_LESS_MEMORY = (
    "too little memory to train; training.micro_batch=1 or a smaller training.batch, data.patch or --workers needs "
    "less, and a smaller evaluation.tile where images are scored"
)


@dataclass(frozen=True)
class ActiveRun:
    """A run whose lock this process holds, with everything that its work may use."""

    planned: PlannedRun
    workspace: Workspace
    parent: str
    """MLflow run that stands for the comparison, as `Tracking.run` takes it."""
    tracker: RunTracker
    progress: Progress | None
    judge: Judge | None

    @property
    def run(self) -> Run:
        """The run that is being executed."""
        return self.planned.run


def execute(
    planned: PlannedRun, workspace: Workspace, parent: str, judge: Judge | None = None, wait: bool = False
) -> None:
    """Train a run from its last checkpoint until it is finished. A finished run is not trained again.

    Raises TrainingError if another process holds its lock. If `wait` is true, waits for that process instead. `judge`
    may stop the run after an evaluation. `None` never stops it.
    """
    run, progress = planned.run, workspace.bar(planned.run)
    try:
        with lock_of(run.folder, wait):
            sweep(run.folder)
            tracker = _tracker(planned, workspace, parent)
            try:
                _do_work(ActiveRun(planned, workspace, parent, tracker, progress, judge))
            except BaseException as error:
                if isinstance(error, Diverged):
                    tracker.artifact(write_diverged(run.folder, error.step, str(error)))
                tracker.finish(_ending(error))
                if progress is not None:
                    progress.happened(None, f"{'stopped' if _ending(error) == 'KILLED' else 'failed'}: {brief(error)}")
                if lacks_memory(error) and current().count == 1:  # other ranks would wait for this one
                    raise TrainingError(f"{brief(error)}: {_LESS_MEMORY}") from error
                raise
            tracker.finish("FINISHED")
            if progress is not None:
                progress.happened(None, FINISHED)
    except Timeout:
        current().told(SKIP)
        raise TrainingError(
            f"another process is training this run ({run.folder}); run the command again when it is finished"
        ) from None


def _tracker(planned: PlannedRun, workspace: Workspace, parent: str) -> RunTracker:
    """Return the tracker of the run. Its run in the tracking store is created if it does not exist."""
    run, note = planned.run, note_of(planned, workspace.out)
    return workspace.tracking.run(
        run.hash,
        name=f"{run.label}-seed{run.seed}",
        parent=parent,
        comparison=planned.experiment.name,
        label=run.label,
        params=planned.parameters(),
        folder=run.folder,
        tags={**_tags(planned.device), **run.tags, **({NOTE: note} if note else {})},
        images=images_of(planned),
    )


def _do_work(active: ActiveRun) -> None:
    """Do the work of the run unless it is finished. Under torchrun, broadcast to the other ranks if it is skipped."""
    if active.run.status == "finished":
        active.tracker.concluding(active.run.folder / RESULT)  # it may have been killed right after writing it
        current().told(SKIP)
        return
    (active.run.folder / DIVERGED).unlink(missing_ok=True)
    write_config(active.run.folder, active.run.identity, environment(active.planned.device))
    pkgutil.resolve_name(active.planned.work)(active)


def _ending(error: BaseException) -> str:
    """Return the status in the tracking store of a run that ended with this error."""
    stopped = isinstance(error, UserError | KeyboardInterrupt | OSError) and not isinstance(error, TrainingError)
    return "KILLED" if stopped else "FAILED"


def _tags(device: torch.device) -> dict[str, Any]:
    known = environment(device)
    return {key: str(known[key]) for key in ("version", "commit", "device", "torch") if known[key] is not None}
