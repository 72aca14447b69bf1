"""Jobs of an unlearning request in separate processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.config.unlearning import methods_from
from cmtl_ir.processes import pool
from cmtl_ir.processes.job import Job as ProcessJob
from cmtl_ir.runs.follow import JournalFollower
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.layout import LOG, experiment_file
from cmtl_ir.store.listing import set_aside
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.making import described
from cmtl_ir.strategy.unlearning import Ensemble, Rerun
from cmtl_ir.unlearning.ensembles import plan_ensemble
from cmtl_ir.unlearning.origin import Origin, origin_of
from cmtl_ir.unlearning.planning import Job, plan


def runs_of(job: Job) -> list[PlannedRun]:
    """Plan the runs that a job needs. The last one is its result."""
    return plan_ensemble(job) if isinstance(job.method, Ensemble) else [plan(job)]


def run_in_processes(jobs: Sequence[Job], workspace: Workspace, fresh: bool) -> dict[str, str]:
    """Finish the jobs, `workspace.workers` at once, and return the reason of each failure by the name of the job.

    The retrained reference is trained before all other jobs, because methods may stop at its scores and have its hash
    in their identity.
    """
    failures: dict[str, str] = {}
    first = [job for job in jobs if isinstance(job.method, Rerun) and job.method.is_reference]
    for wave in (first, [job for job in jobs if job not in first]):
        listed = []
        for job in wave:
            runs = [one.run for one in runs_of(job)]
            for run in runs if fresh else ():
                set_aside(run.folder)
            if runs[-1].status != "finished":
                listed.append(_process_job(job, runs[-1], workspace))
        if listed:
            with pool.starter(workspace.workers, str(jobs[0].origin.device), workspace.ray) as start:
                failures |= pool.work_off(listed, workspace.workers, start)
    return failures


def _process_job(job: Job, run: Run, workspace: Workspace) -> ProcessJob:
    payload = {
        "call": "cmtl_ir.unlearning.requests:forget",
        "origin": described_origin(job.origin, workspace.out),
        "label": job.label,
        "method": described(job.method),
        "forget": list(job.forget),
        "use_retain": job.use_retain,
        "hash": run.hash,
        "out": str(workspace.out.resolve()),
        "device": str(job.origin.device),
        "tracking_uri": workspace.tracking.uri,
    }
    made = ProcessJob(job.name, payload, run.folder / LOG, run.hash)
    if workspace.progress is not None:
        JournalFollower(run, workspace.progress).follow(made)
    return made


def described_origin(origin: Origin, out: Path) -> dict[str, Any]:
    """Return as plain values what another process needs to find a run that is to forget."""
    return {
        "folder": str(origin.folder.resolve()),
        "file": str(experiment_file(out, origin.comparison).resolve()),
        "label": origin.label,
        "seed": origin.seed,
        "called": origin.called,
    }


def origin_described(one: Mapping[str, Any], out: Path, device: str) -> Origin:
    """Return the origin that `described_origin` described."""
    return origin_of(Path(one["folder"]), Path(one["file"]), one["label"], one["seed"], one["called"], out, device)


def job_of(payload: Mapping[str, Any]) -> Job:
    """Return the job that a payload of `run_in_processes` describes."""
    origin = origin_described(payload["origin"], Path(payload["out"]), payload["device"])
    method = methods_from({payload["label"]: payload["method"]}, [])[payload["label"]]
    return Job(origin, payload["label"], method, tuple(payload["forget"]), payload["use_retain"])
