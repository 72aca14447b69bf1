"""Training of several runs at once, each in its own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from cmtl_ir.config import reading
from cmtl_ir.processes.job import Job
from cmtl_ir.processes.pool import starter, work_off
from cmtl_ir.runs.execution import execute
from cmtl_ir.runs.follow import JournalFollower
from cmtl_ir.runs.plan import PlannedRun, prepare
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.layout import JOURNAL, LOG


def run_in_processes(planned: Sequence[PlannedRun], workspace: Workspace, parent: str) -> dict[str, str]:
    """Train all unfinished runs, `workspace.workers` at once, and return the reason of each failure by run name."""
    jobs = [job_of(one, workspace, parent) for one in planned if one.run.status != "finished"]
    if not jobs:
        return {}
    with (
        starter(workspace.workers, str(planned[0].device), workspace.ray) as start,
        _parent_in_background(planned, workspace, parent),
    ):
        return work_off(jobs, workspace.workers, start)


@contextmanager
def _parent_in_background(planned: Sequence[PlannedRun], workspace: Workspace, parent: str) -> Iterator[None]:
    """Find or create the MLflow run of the comparison as soon as one of its runs has logged something.

    MLflow takes seconds to start, in which the cores belong to the processes that start to train.
    """
    journals = [one.run.folder / JOURNAL for one in planned]
    ended, before = threading.Event(), [_size(one) for one in journals]

    def wait() -> None:
        while not ended.wait(1.0):
            if [_size(one) for one in journals] != before:
                with suppress(Exception):  # the figures of the comparison, at its end, are refused with a warning
                    workspace.tracking.settled(parent)
                return

    thread = threading.Thread(target=wait, name="tracking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def job_of(planned: PlannedRun, workspace: Workspace, parent: str) -> Job:
    """Return the job that trains a run in another process."""
    run, experiment, strategy = planned.run, planned.experiment, planned.strategy
    if planned.declared is not None:
        experiment, strategy = planned.declared, planned.declared.strategies[run.label]
    teachers = planned.teachers().strategies() if planned.needs_teachers else {}
    only = {"strategies": {**teachers, run.label: strategy}, "seeds": [run.seed]}
    payload = {
        "call": "cmtl_ir.runs.parallel:train_run",
        "experiment": experiment.model_copy(update=only).resolved(),
        "label": run.label,
        "hash": run.hash,
        "out": str(workspace.out.resolve()),
        "device": str(planned.device),
        "tracking_uri": workspace.tracking.uri,
        "parent": parent,
        "rescorable": planned.rescorable,
    }
    job = Job(run.name, payload, run.folder / LOG, run.hash)
    if workspace.progress is not None:
        JournalFollower(run, workspace.progress).follow(job)
    return job


def train_run(job: Mapping[str, Any]) -> None:
    """Train one run of an experiment until it is finished. This is the job of a worker.

    Raises RuntimeError if data or experiment here make another run.
    """
    workspace = Workspace.at(job["out"], job["device"], job["tracking_uri"])
    experiment = reading.validate(job["experiment"], "the job")
    planned = prepare(experiment, Path(job["out"]), job["device"]).planned[-1]  # after the teachers that it needs
    if planned.run.hash != job["hash"]:
        raise RuntimeError(
            f"the job is of run {job['hash']}, but here its data and experiment make it {planned.run.hash}"
        )
    planned = replace(planned, run=replace(planned.run, label=job["label"]), rescorable=job["rescorable"])
    execute(planned, workspace, job["parent"], wait=True)  # an earlier attempt may still be saving
