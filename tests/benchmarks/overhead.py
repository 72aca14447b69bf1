"""What checkpoints, tracking and conflict logging cost a run at the shipped settings, as shares of its CPU time.

    python -m tests.benchmarks.overhead [--experiment quickstart] [--strategy joint] [--steps 900]

One run, one thread, a fresh sqlite store. CPU time, not the clock: it is the same on a busy machine. What the tracking
thread does counts as tracking's. A step that logs conflict is charged with what it takes beyond the median step, and
so is the step before it, which keeps the weights. Waiting for the disk takes no CPU: it is printed beside.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cmtl_ir.config import reading

os.environ["OMP_NUM_THREADS"] = "1"  # or a step's CPU time would be spread over threads that nobody asks

import torch

from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs import comparison, plan
from cmtl_ir.runs.watching.logs import ConflictWatcher
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.saving import Checkpoints
from cmtl_ir.store import checkpoint
from cmtl_ir.tracking.store import Tracking
from cmtl_ir.tracking.tracker import RunTracker
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult


class Meter:
    """CPU seconds by purpose; of nested calls the outermost counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.clock: dict[str, list[float]] = {}
        self._here = threading.local()

    def measured(self, owner: Any, name: str, purpose: str) -> Any:
        """A patch under which every call of `owner.name` is measured."""
        real: Callable[..., Any] = getattr(owner, name)

        def call(*given: Any, **more: Any) -> Any:
            if getattr(self._here, "inside", False):
                return real(*given, **more)
            self._here.inside, cpu, clock = True, time.thread_time(), time.perf_counter()
            try:
                return real(*given, **more)
            finally:
                self._here.inside = False
                self.seconds.setdefault(purpose, []).append(time.thread_time() - cpu)
                self.clock.setdefault(purpose, []).append(time.perf_counter() - clock)

        return patch.object(owner, name, call)


class Steps:
    """CPU seconds of every step, without what the recorder does after it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.logged: list[int] = []
        self._since = 0.0

    def watched(self) -> Any:
        """A patch under which steps are measured."""
        stepped = Recorder.stepped

        def call(recorder: Recorder, learner: Learner, result: StepResult, rate: float) -> None:
            self.seconds.append(time.thread_time() - self._since)
            if result.gramian is not None:
                self.logged.append(len(self.seconds) - 1)
            stepped(recorder, learner, result, rate)
            self._since = time.thread_time()

        return patch.object(Recorder, "stepped", call)

    def beyond_a_plain_step(self) -> float:
        """Of the steps that log conflict and those before them; the first step is not counted: it warms up."""
        charged = {place for one in self.logged for place in (one - 1, one) if place > 0}
        plain = statistics.median(t for place, t in enumerate(self.seconds) if place not in charged)
        return sum(self.seconds[place] - plain for place in charged)


def measured_run(experiment: Experiment, out: Path) -> tuple[float, Meter, Steps]:
    """(CPU seconds of the run with all its threads, who had them, its steps)."""
    meter, steps = Meter(), Steps()
    tracked = ("log", "rewind", "artifact", "finish", "deliver")
    with contextlib.ExitStack() as watched:
        for one in (
            meter.measured(Checkpoints, "save", "checkpoints"),
            meter.measured(checkpoint, "save", "checkpoints"),
            *(meter.measured(RunTracker, name, "tracking") for name in tracked),
            meter.measured(Tracking, "run", "tracking"),
            meter.measured(Tracking, "parent", "once"),
            meter.measured(ConflictWatcher, "stepped", "conflict"),
            steps.watched(),
        ):
            watched.enter_context(one)
        start = time.process_time()
        comparison.run(experiment, out, "cpu")
        total = time.process_time() - start
    return total - sum(meter.seconds["once"]), meter, steps


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--strategy", default="joint")
    parser.add_argument("--steps", type=int, default=900)
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = plan.narrowed_to(reading.load(options.experiment), [options.strategy], [0], options.steps)
    with tempfile.TemporaryDirectory() as folder:
        total, meter, steps = measured_run(made, Path(folder))
    shares = {name: sum(meter.seconds.get(name, [])) for name in ("checkpoints", "tracking", "conflict")}
    shares["conflict"] += steps.beyond_a_plain_step()
    saves = meter.clock["checkpoints"]
    print(f"{options.experiment}, {options.strategy}, {options.steps} steps, torch {torch.__version__}, one thread\n")
    print("| | times | CPU seconds | share of the run |\n|---|--:|--:|--:|")
    print(f"| the run: {1e3 * statistics.median(steps.seconds):.0f} ms a step, evaluations | | {total:.1f} | |")
    counts = {"checkpoints": len(saves), "tracking": len(meter.seconds["tracking"]), "conflict": len(steps.logged)}
    for name, seconds in shares.items():
        print(f"| {name} | {counts[name]} | {seconds:.2f} | {seconds / total:.2%} |")
    print(f"| together | | {sum(shares.values()):.2f} | {sum(shares.values()) / total:.2%} |")
    print(f"\nOnce a process: {sum(meter.seconds['once']):.1f} CPU seconds to import MLflow and make its database.")
    print(f"A checkpoint by the clock: median {statistics.median(saves):.3f} s, longest {max(saves):.3f} s.")


if __name__ == "__main__":
    main()
