"""Whether a run that is killed and resumed, and a run that is repeated, end with the same bits."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from cmtl_ir.runs import comparison
from cmtl_ir.store.run import Run
from tests.benchmarks.gpu.cases import Sizes
from tests.benchmarks.gpu.comparisons import experiment

STRATEGIES: dict[str, dict[str, Any]] = {
    "joint": {},
    "pcgrad": {"surgery": "pcgrad"},
    "nash_mtl": {"surgery": "nash_mtl"},
    "replay": {"curriculum": "sequential", "retention": "replay"},
}


class Killed(Exception):
    """Stands for the end of the process."""


class Killer:
    """The progress of a run that ends at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def advanced(self, step: int, losses: dict[str, float]) -> None:
        """End the run if it has come to the step."""
        if step >= self.step:
            raise Killed

    def happened(self, step: int | None, what: str) -> None:
        """Nothing is shown."""


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch use deterministic algorithms only."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def weights(sizes: Sizes, label: str, steps: int, out: Path, killed: bool = False) -> bytes:
    """Return the file of the final weights of a run, which is killed half-way and resumed if `killed` is true."""
    made = experiment(sizes, "resume", steps, {label: STRATEGIES[label]}, checkpoint={"every": max(steps // 3, 1)})
    if killed:

        def killer(run: Run) -> Killer:
            return Killer(steps // 2)

        with suppress(Killed):
            comparison.run(made, out, sizes.device, progress=killer)
    done = comparison.run(made, out, sizes.device)
    if done.failures:
        raise RuntimeError("; ".join(done.failures.values()))
    return (done.runs[0].folder / "weights.safetensors").read_bytes()


def row(sizes: Sizes, label: str, steps: int) -> str:
    """Return the line of one strategy, or what an operation without a deterministic algorithm says."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        try:
            with deterministic():
                first = weights(sizes, label, steps, home / "first")
                again = weights(sizes, label, steps, home / "again") == first
                resumed = weights(sizes, label, steps, home / "killed", killed=True) == first
        except RuntimeError as error:
            return f"| {label} | {steps} | {str(error).splitlines()[0]} | |"
        free = [weights(sizes, label, steps, home / f"free{number}", killed=number > 0) for number in range(2)]
    words = {True: "equal", False: "different"}
    return f"| {label} | {steps} | {words[again]} | {words[resumed]} | {words[free[0] == free[1]]} |"


def table(sizes: Sizes) -> None:
    """Print one line per strategy."""
    print("| strategy | steps | repeated, deterministic | resumed, deterministic | resumed, as shipped |")
    print("|---|--:|---|---|---|", flush=True)
    for label in ["joint"] if sizes.tiny else STRATEGIES:
        print(row(sizes, label, 4 if sizes.tiny else 60), flush=True)
