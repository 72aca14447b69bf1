"""The jobs of a request in processes of their own; whoever asks afterwards finds them done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmtl_ir.config.unlearning import methods_from
from cmtl_ir.processes import pool
from cmtl_ir.processes.job import Job as ProcessJob
from cmtl_ir.runs.follow import Follower
from cmtl_ir.runs.recorder import Progress
from cmtl_ir.store.layout import LOG, experiment_file
from cmtl_ir.store.listing import set_aside
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.making import described
from cmtl_ir.strategy.unlearning import Rerun
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.unlearning.origin import Origin, origin_of
from cmtl_ir.unlearning.planning import Job, Planned

RunsOf = Callable[[Job], list[Planned]]


def side_by_side(
    jobs: Sequence[Job],
    runs_of: RunsOf,
    out: Path,
    fresh: bool,
    tracking_uri: str | None,
    progress: Callable[[Run], Progress] | None,
    slots: int,
    ray: str | None,
) -> dict[str, str]:
    """Bring the jobs to their end, `slots` at once; name of a job -> why it failed.

    The retrained reference comes first, alone: others stop at its scores, and are named by it.
    """
    failures: dict[str, str] = {}
    device = str(jobs[0].origin.prepared.device)
    first = [job for job in jobs if isinstance(job.method, Rerun) and job.method.is_reference]
    for wave in (first, [job for job in jobs if job not in first]):
        listed = []
        for job in wave:
            planned = runs_of(job)
            for one in planned if fresh else ():
                set_aside(one.run.folder)
            if planned[-1].run.status != "finished":
                listed.append(_job_of(job, planned[-1].run, out, device, tracking_uri, progress))
        if listed:
            with pool.starter(slots, device, ray) as start:
                failures |= pool.work_off(listed, slots, start)
    return failures


def _job_of(
    job: Job, run: Run, out: Path, device: str, tracking_uri: str | None, progress: Callable[[Run], Progress] | None
) -> ProcessJob:
    payload = {
        "call": "cmtl_ir.unlearning.requests:forget",
        "origin": described_origin(job.origin, out),
        "label": job.label,
        "method": described(job.method),
        "forget": list(job.forget),
        "use_retain": job.use_retain,
        "hash": run.hash,
        "out": str(out.resolve()),
        "device": device,
        "tracking_uri": Tracking(tracking_uri, out).uri,
    }
    made = ProcessJob(job.name, payload, run.folder / LOG, run.hash)
    if progress is not None:
        made.look = Follower(run, progress).look
    return made


def described_origin(origin: Origin, out: Path) -> dict[str, Any]:
    """What another process needs to know of a run that is made to forget."""
    return {
        "folder": str(origin.folder.resolve()),
        "file": str(experiment_file(out, origin.comparison).resolve()),
        "label": origin.label,
        "seed": origin.seed,
        "called": origin.called,
    }


def origin_described(one: Mapping[str, Any], out: Path, device: str) -> Origin:
    """The inverse of `described_origin`."""
    return origin_of(Path(one["folder"]), Path(one["file"]), one["label"], one["seed"], one["called"], out, device)


def job_of(payload: Mapping[str, Any]) -> Job:
    """What `side_by_side` made the payload of."""
    origin = origin_described(payload["origin"], Path(payload["out"]), payload["device"])
    method = methods_from({payload["label"]: payload["method"]}, [])[payload["label"]]
    return Job(origin, payload["label"], method, tuple(payload["forget"]), payload["use_retain"])
