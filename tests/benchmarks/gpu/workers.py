"""Four runs one after the other and four at once on one GPU, each in its own process."""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cmtl_ir.processes import pool, worker
from cmtl_ir.processes.job import Job
from cmtl_ir.runs import comparison
from tests.benchmarks.gpu.cases import Sizes
from tests.benchmarks.gpu.comparisons import experiment

COUNT = 4


class Here:
    """An attempt at a job in this process, which a test has time for."""

    def __init__(self, job: Job, environment: dict[str, str]) -> None:
        self._answer = worker._answer(job.payload)

    def answer(self) -> dict[str, str]:
        """Return the answer of the job."""
        return self._answer

    def stop(self, at_once: bool = False) -> None:
        """Do nothing: the job has ended."""


def timed(sizes: Sizes, workers: int) -> tuple[float, dict[int, float]]:
    """Train the runs. Return the seconds, starts of processes included, and the mean PSNR by seed."""
    over: dict[str, Any] = {"seeds": list(range(COUNT if not sizes.tiny else 1))}
    made = experiment(sizes, "workers", 2 if sizes.tiny else 400, {"joint": {}}, **over)
    here = patch.object(pool, "LocalProcess", Here) if sizes.tiny else nullcontext()
    with tempfile.TemporaryDirectory() as folder, here:
        start = time.perf_counter()
        done = comparison.run(made, Path(folder), sizes.device, workers=workers)
        seconds = time.perf_counter() - start
        if done.failures:
            raise RuntimeError("; ".join(done.failures.values()))
        scores = {one["seed"]: sum(one["psnr"].values()) / len(one["psnr"]) for one in done.results()}
    return seconds, scores


def table(sizes: Sizes) -> None:
    """Print one line per number of workers."""
    print(
        "| workers | s for all runs | times one worker | largest difference of mean PSNR, dB |\n|--:|--:|--:|--:|",
        flush=True,
    )
    first, alone = timed(sizes, 1)
    print(f"| 1 | {first:.1f} | 1.00 | |", flush=True)
    for workers in (2,) if sizes.tiny else (2, COUNT):
        seconds, scores = timed(sizes, workers)
        difference = max(abs(scores[seed] - alone[seed]) for seed in alone)
        print(f"| {workers} | {seconds:.1f} | {first / seconds:.2f} | {difference:.4f} |", flush=True)
