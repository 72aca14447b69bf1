"""A job for another process, and its process on this machine."""

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
    """Something that `python -m cmtl_ir.processes.worker` can do."""

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


class LocalProcess:
    """A job in a process of this machine, in a session of its own: Ctrl-C reaches the launcher only."""

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
