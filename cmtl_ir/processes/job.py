"""A job for another process, and the process of a job on this machine."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cmtl_ir.base.environment import CORES, cores


@dataclass
class Job:
    """A job that `python -m cmtl_ir.processes.worker` can do."""

    name: str
    payload: dict[str, Any]
    log: Path
    """File for everything that the job prints. Lines of earlier attempts are kept."""
    alone: str = ""
    """Two jobs with the same nonempty key are never done at once."""
    look: Callable[[], None] = lambda: None
    """Called repeatedly while the job is being done, and once more when it has ended."""
    failed: Callable[[str], None] = lambda reason: None
    """Called with the reason if the job has failed and is not started again."""
    deaths: list[str] = field(default_factory=list)
    """Reasons why earlier attempts ended before the job was done."""


class Attempt(Protocol):
    """An attempt at a job, in a process somewhere."""

    def answer(self) -> dict[str, str] | None:
        """Return the final state (finished, stopped, failed or died) and its reason. `None` if the job still runs.

        Later calls return the same answer.
        """

    def stop(self, at_once: bool = False) -> None:
        """Ask the job to save and stop, or kill it if `at_once` is true."""


Start = Callable[[Job, int], Attempt]
"""Starts a job in a slot, (job, slot) -> attempt."""


class LocalProcess:
    """An attempt in a process on this machine. It has its own session, so Ctrl-C reaches the launcher only."""

    def __init__(self, job: Job, environment: dict[str, str]) -> None:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {job.name}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cmtl_ir.processes.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has already died, which `answer` reports
            self.process.stdin.write(json.dumps(job.payload) + "\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, str] | None:
        """Return the answer of the process, or how it died. See `Attempt`."""
        return None if self.process.poll() is None else self._final_answer

    @functools.cached_property
    def _final_answer(self) -> dict[str, str]:
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
        """Send SIGTERM to the process, or SIGKILL if `at_once` is true."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill() if at_once else self.process.terminate()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}: out of memory?" if name == "SIGKILL" else name


def environment_of(slot: int, workers: int, gpus: Sequence[str]) -> dict[str, str]:
    """Return the environment of a worker: its share of the cores, and one GPU.

    GPUs are assigned to slots in turn, so they are shared if there are more workers than GPUs.
    """
    made = dict(os.environ)
    share = str(max(1, cores() // workers))
    made[CORES] = share
    made.setdefault("OMP_NUM_THREADS", share)
    if gpus:
        made["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return made


def visible_gpus() -> list[str]:
    """Return the values of CUDA_VISIBLE_DEVICES that select one GPU each."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one.strip() for one in named.split(",") if one.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]
