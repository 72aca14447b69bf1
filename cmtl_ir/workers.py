"""Many jobs at once: so many slots, one process a job, no daemon. A job whose process dies is started again."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cmtl_ir.cores import CORES, cores
from cmtl_ir.errors import Interrupted
from cmtl_ir.follow import Follower
from cmtl_ir.plans import Prepared, Run
from cmtl_ir.recorder import Progress
from cmtl_ir.tracking import Tracking

RESTARTS = 3
"""How often a job whose process died is started again."""
SECONDS = 0.2
"""Between looks at the processes."""


@dataclass
class Job:
    """Something that `cmtl_ir.worker` can do."""

    name: str
    payload: dict[str, Any]
    log: Path
    """Where everything it prints goes; lines of earlier attempts stay."""
    alone: str = ""
    """Two jobs of the same word are never done at once."""
    look: Callable[[], None] = lambda: None
    """Called now and then while it is being done."""
    deaths: list[str] = field(default_factory=list)


class Attempt(Protocol):
    """A job being done somewhere."""

    def answer(self) -> dict[str, str] | None:
        """What it said at its end: state finished, stopped, failed or died, and a reason; None: it is still at it.

        May be asked again after that, and says the same.
        """

    def stop(self, at_once: bool = False) -> None:
        """Ask it to save and leave, or end it."""


Start = Callable[[Job, int], Attempt]
"""(job, slot) -> the job being done there."""


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
        "kind": "run",
        "experiment": prepared.experiment.model_copy(update=only).resolved(),
        "label": run.label,
        "hash": run.hash,
        "out": str(prepared.out.resolve()),
        "device": str(prepared.device),
        "tracking_uri": tracking.uri,
        "parent": parent,
    }
    follower = Follower(run, progress) if progress is not None else None
    return Job(run.name, payload, run.folder / "log.txt", run.hash, follower.look if follower else lambda: None)


@contextlib.contextmanager
def starter(workers: int, device: str, ray: str | None = None) -> Iterator[Start]:
    """How jobs are started: as processes here, or on a Ray cluster."""
    if ray is not None:
        from cmtl_ir.ray_workers import on_ray

        with on_ray(ray, workers, device) as start:
            yield start
        return
    gpus = visible_gpus() if device == "cuda" else []
    yield lambda job, slot: LocalProcess(job, environment_of(slot, workers, gpus))


def work_off(jobs: Sequence[Job], slots: int, start: Start) -> dict[str, str]:
    """Do all jobs, `slots` at once. Name -> why it failed. On Ctrl-C or SIGTERM all are asked to save and leave."""
    waiting, at_work, failures = list(jobs), dict[int, tuple[Job, Attempt]](), dict[str, str]()
    try:
        with terminated_like_ctrl_c():
            while waiting or at_work:
                _fill(waiting, at_work, slots, start)
                time.sleep(SECONDS)
                for slot, (job, attempt) in list(at_work.items()):
                    job.look()
                    if (answer := attempt.answer()) is not None:
                        del at_work[slot]
                        job.look()
                        _take(job, answer, waiting, failures)
    except KeyboardInterrupt:
        _leave([attempt for _, attempt in at_work.values()])
        raise Interrupted(
            f"stopped with {len(at_work)} at work and {len(waiting)} waiting: everything up to here is saved; "
            "the same command goes on"
        ) from None
    return failures


def _fill(waiting: list[Job], at_work: dict[int, tuple[Job, Attempt]], slots: int, start: Start) -> None:
    for slot in set(range(slots)) - set(at_work):
        busy = {job.alone for job, _ in at_work.values() if job.alone}
        if (job := next((one for one in waiting if one.alone not in busy), None)) is None:
            return
        waiting.remove(job)
        at_work[slot] = job, start(job, slot)


def _take(job: Job, answer: dict[str, str], waiting: list[Job], failures: dict[str, str]) -> None:
    """What becomes of a job that has ended."""
    if answer["state"] == "finished":
        return
    if answer["state"] == "failed":
        failures[job.name] = answer["reason"]
        return
    job.deaths.append(answer["reason"])  # killed, or told to stop by somebody else: its checkpoint is good
    if len(job.deaths) <= RESTARTS:
        waiting.insert(0, job)
    else:
        failures[job.name] = (
            f"its process ended {len(job.deaths)} times ({'; '.join(job.deaths)}). What it said is in {job.log}; "
            "the same command goes on from its last checkpoint"
        )


def _leave(attempts: Sequence[Attempt]) -> None:
    """Let all save; a second Ctrl-C ends them at once."""
    try:
        for attempt in attempts:
            attempt.stop()
        while any(attempt.answer() is None for attempt in attempts):
            time.sleep(SECONDS)
    except KeyboardInterrupt:
        for attempt in attempts:
            attempt.stop(at_once=True)


@contextlib.contextmanager
def terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt here too."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


# --------------------------------------------------------------------------------------------- processes here


class LocalProcess:
    """A job in a process of this machine, in a session of its own: Ctrl-C reaches the launcher only."""

    def __init__(self, job: Job, environment: dict[str, str]) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {job.name}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cmtl_ir.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died already: `answer` will say so
            self.process.stdin.write(json.dumps(job.payload) + "\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, str] | None:
        """See Attempt."""
        return None if self.process.poll() is None else self._last_words

    @functools.cached_property
    def _last_words(self) -> dict[str, str]:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        said = self.process.stdout.read()
        self.process.stdout.close()
        try:
            return json.loads(said)
        except ValueError:
            return {"state": "died", "reason": _cause(self.process.returncode)}

    def stop(self, at_once: bool = False) -> None:
        """See Attempt."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill() if at_once else self.process.terminate()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}: out of memory?" if name == "SIGKILL" else name


def environment_of(slot: int, workers: int, gpus: Sequence[str]) -> dict[str, str]:
    """A worker's environment: its share of the cores, and its GPU in turn (more workers than GPUs share them)."""
    made = dict(os.environ)
    share = str(max(1, cores() // workers))
    made[CORES] = share
    made.setdefault("OMP_NUM_THREADS", share)
    if gpus:
        made["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return made


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may be set to, one GPU each."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
