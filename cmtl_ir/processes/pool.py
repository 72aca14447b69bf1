"""A pool of slots for jobs, one process per job, without a daemon. A job whose process dies is started again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from cmtl_ir.base.errors import Interrupted
from cmtl_ir.base.signals import Interrupting, answered
from cmtl_ir.processes.job import Attempt, Job, LocalProcess, Start, environment_of, visible_gpus

RESTARTS = 3
"""Number of times that a job whose process died is started again."""
SECONDS = 0.2
"""Time between checks of the processes."""


@contextlib.contextmanager
def starter(workers: int, device: str, ray: str | None = None) -> Iterator[Start]:
    """Yield the function that starts jobs, as processes on this machine or on the Ray cluster at the address `ray`."""
    if ray is not None:
        from cmtl_ir.processes.ray import on_ray

        with on_ray(ray, workers, device) as start:
            yield start
        return
    gpus = visible_gpus() if device == "cuda" else []
    yield lambda job, slot: LocalProcess(job, environment_of(slot, workers, gpus))


def work_off(jobs: Sequence[Job], slots: int, start: Start) -> dict[str, str]:
    """Do all jobs, `slots` at once, and return the reason of each failure by the name of the job.

    On Ctrl-C, SIGTERM or SIGHUP, all jobs are asked to save and stop, and Interrupted is raised.
    """
    waiting, at_work, failures = list(jobs), dict[int, tuple[Job, Attempt]](), dict[str, str]()

    def attempts() -> list[Attempt]:
        return [attempt for _, attempt in at_work.values()]

    with answered(Interrupting(lambda: _kill_all(attempts()))):
        try:
            _work_off(waiting, at_work, failures, slots, start)
        except KeyboardInterrupt:
            _stop_all(attempts())
            raise Interrupted(
                f"stopped with {len(at_work)} running and {len(waiting)} waiting: everything up to here is saved; "
                "the same command resumes"
            ) from None
    return failures


def _work_off(
    waiting: list[Job], at_work: dict[int, tuple[Job, Attempt]], failures: dict[str, str], slots: int, start: Start
) -> None:
    while waiting or at_work:
        _fill(waiting, at_work, slots, start)
        time.sleep(SECONDS)
        for slot, (job, attempt) in list(at_work.items()):
            job.look()
            if (answer := attempt.answer()) is not None:
                del at_work[slot]
                job.look()
                _take(job, answer, waiting, failures)


def _fill(waiting: list[Job], at_work: dict[int, tuple[Job, Attempt]], slots: int, start: Start) -> None:
    for slot in set(range(slots)) - set(at_work):
        busy = {job.alone for job, _ in at_work.values() if job.alone}
        if (job := next((one for one in waiting if one.alone not in busy), None)) is None:
            return
        waiting.remove(job)
        at_work[slot] = job, start(job, slot)


def _take(job: Job, answer: dict[str, str], waiting: list[Job], failures: dict[str, str]) -> None:
    """Handle the answer of a job that has ended: record a failure, or queue the job again if its process died."""
    if answer["state"] == "finished":
        return
    if answer["state"] == "failed":
        failures[job.name] = answer["reason"]
        job.failed(answer["reason"])
        return
    job.deaths.append(answer["reason"])  # killed, or stopped from outside: its checkpoint is intact
    if len(job.deaths) <= RESTARTS:
        waiting.insert(0, job)
    else:
        failures[job.name] = (
            f"its process ended {len(job.deaths)} times ({'; '.join(job.deaths)}). Its output is in {job.log}; "
            "the same command resumes from its last checkpoint"
        )
        job.failed(failures[job.name])


def _stop_all(attempts: Sequence[Attempt]) -> None:
    """Let all jobs save and stop."""
    for attempt in attempts:
        attempt.stop()
    while any(attempt.answer() is None for attempt in attempts):
        time.sleep(SECONDS)


def _kill_all(attempts: Sequence[Attempt]) -> None:
    """Kill all jobs at once, after a second Ctrl-C."""
    for attempt in attempts:
        attempt.stop(at_once=True)
