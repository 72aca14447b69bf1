"""Training of several runs at once, each in its own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from cmtl_ir.store.layout import LOG


def run_in_processes(planned: Sequence[PlannedRun], workspace: Workspace, parent: str) -> dict[str, str]:
    """Train all unfinished runs, `workspace.workers` at once, and return the reason of each failure by run name."""
    jobs = [job_of(one, workspace, parent) for one in planned if one.run.status != "finished"]
    if not jobs:
        return {}
    with starter(workspace.workers, str(planned[0].device), workspace.ray) as start:
        return work_off(jobs, workspace.workers, start)


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
