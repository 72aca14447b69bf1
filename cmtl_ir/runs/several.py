"""Runs in processes of their own, several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmtl_ir.config import reading
from cmtl_ir.processes.job import Job
from cmtl_ir.processes.pool import starter, work_off
from cmtl_ir.runs.follow import Follower
from cmtl_ir.runs.plan import Prepared, Run
from cmtl_ir.runs.recorder import Progress
from cmtl_ir.store.layout import LOG
from cmtl_ir.tracking.store import Tracking


def side_by_side(
    prepared: Prepared,
    tracking: Tracking,
    parent: str,
    progress: Callable[[Run], Progress] | None,
    workers: int,
    ray: str | None = None,
) -> dict[str, str]:
    """Bring all unfinished runs to their end, `workers` at once. Name of a run -> why it failed."""
    return several([(run, prepared) for run in prepared.runs], tracking, parent, progress, workers, ray)


def several(
    runs: Sequence[tuple[Run, Prepared]],
    tracking: Tracking,
    parent: str,
    progress: Callable[[Run], Progress] | None,
    workers: int,
    ray: str | None = None,
) -> dict[str, str]:
    """The same for runs that do not belong to one experiment."""
    jobs = [_job_of(run, of, tracking, parent, progress) for run, of in runs if run.status != "finished"]
    if not jobs:
        return {}
    with starter(workers, str(runs[0][1].device), ray) as start:
        return work_off(jobs, workers, start)


def _job_of(
    run: Run, prepared: Prepared, tracking: Tracking, parent: str, progress: Callable[[Run], Progress] | None
) -> Job:
    only = {"strategies": {run.label: run.strategy}, "seeds": [run.seed]}
    payload = {
        "call": "cmtl_ir.runs.several:train_run",
        "experiment": prepared.experiment.model_copy(update=only).resolved(),
        "label": run.label,
        "hash": run.hash,
        "out": str(prepared.out.resolve()),
        "device": str(prepared.device),
        "tracking_uri": tracking.uri,
        "parent": parent,
    }
    follower = Follower(run, progress) if progress is not None else None
    return Job(run.name, payload, run.folder / LOG, run.hash, follower.look if follower else lambda: None)


def train_run(job: Mapping[str, Any]) -> None:
    """Bring one run of an experiment to its end."""
    from cmtl_ir.runs import execution, plan
    from cmtl_ir.tracking.store import Tracking

    experiment = reading.validate(job["experiment"], "the job")
    prepared = plan.prepare(experiment, Path(job["out"]), job["device"])
    run = replace(prepared.runs[0], label=job["label"])
    if run.hash != job["hash"]:
        raise RuntimeError(f"the job is of run {job['hash']}, but here its data and experiment make it {run.hash}")
    tracking = Tracking(job["tracking_uri"], prepared.out)
    execution.execute(run, prepared, tracking, job["parent"], None, wait=True)  # an attempt before may still be saving
