"""What every method costs at one size: a step as a ratio to the joint step, memory beyond the joint run's.

    python -m tests.benchmarks.methods [--rounds 5] [--threads 2] [--cpu] [--families weighting surgery]

K = 5 tasks, 75k parameters, 48x48, batch 10, through the training loop itself. Curricula and retentions are timed in
their second stage, once there is something to remember; what happens between stages (importance, memories) is not
in a step and not counted. The methods take turns, and every ratio is the median over rounds of a method's step
against the joint step of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cmtl_ir.strategy import registry
from cmtl_ir.strategy.data import Stage, StepContext
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import StepResult

from .loop import learner_of

TASKS = ("noise", "rain", "haze", "strong_noise", "light_noise")
SETTING: dict[str, Any] = {
    "network": {"name": "nafnet", "width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1]},
    "patch": 48, "batch": 10, "tasks": 5,
}  # fmt: skip
TOTAL, STEPS = 40, 4  # steps of a run's schedule; how many are made of its second stage, or of its only one
FAMILIES = ("weighting", "surgery", "curriculum", "retention")
FIELDS: dict[str, dict[str, Any]] = {
    "manual": {"by_task": dict.fromkeys(TASKS, 1.0)},
    "freeze": {"patterns": ["intro*"]},
    "ewc": {"crops": 8},
    "mas": {"crops": 8},
    "single": {"task": "noise"},
    "review": {"entropy_pairs": 8},
    "interleaved": {"rounds": 1},
}
"""Of methods that need a field, and of those whose work between stages would take long."""


def strategies(families: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`family/name` -> strategy, joint training first."""
    found: dict[str, dict[str, Any]] = {"joint": {}}
    for family in families:
        for name in registry.names(family):
            strategy: dict[str, Any] = {family: {"name": name, **FIELDS.get(name, {})}}
            if family == "retention":
                strategy["curriculum"] = "sequential"
            found[f"{family}/{name}"] = strategy
    return found


class Stopwatch:
    """Seconds of the first steps of a run's second stage, or of its only one; then it stops the run."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, list[float]()
        self.stages = self.steps = self.bytes = 0
        self.last = 0.0

    def wants_gradients(self, step: int) -> bool:
        return False

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        self.stages, self.steps = self.stages + 1, stage.steps
        self.seconds, self.last = [], self.clock()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        self.seconds.append(self.clock() - self.last)
        if len(self.seconds) == STEPS and (self.stages == 2 or self.steps == TOTAL):
            time.sleep(0.1)  # the next step's samples are drawn meanwhile: of every method all, not some
            self.bytes = live_bytes()
            raise StopIteration
        self.last = self.clock()

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        pass


def live_bytes() -> int:
    """Of all tensors' storages, each once."""
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def measured(strategy: dict[str, Any], clock: Callable[[], float]) -> tuple[float, int]:
    """(median seconds of a step in the last stage, bytes beyond what was there before)."""
    gc.collect()
    before, watch = live_bytes(), Stopwatch(clock)
    learner = learner_of(SETTING, strategy, TOTAL)
    with contextlib.suppress(StopIteration):
        train(learner, watch)
    return statistics.median(watch.seconds[1:]), watch.bytes - before


def weighing(name: str, strategy: dict[str, Any], clock: Callable[[], float]) -> float:
    """Seconds that a weighting or a surgery takes for its weights alone, at K = 5."""
    family, _, _ = name.partition("/")
    learner = learner_of(SETTING, strategy, STEPS)
    rows = torch.randn(5, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses, gramian = torch.linspace(0.05, 0.2, 5, dtype=torch.float64), rows @ rows.T
    part: Any = getattr(learner.strategy, family)
    times = []
    for step in range(60):
        context = StepContext(step, "1", TASKS, (2,) * 5, 0)
        start = clock()
        part.scaled(losses, gramian, context) if family == "weighting" else part.weights(gramian, losses, context)
        times.append(clock() - start)
    return statistics.median(times[10:])


def table(made: dict[str, dict[str, Any]], rounds: int, clock: Callable[[], float]) -> None:
    """Print one line a method."""
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in made}
    measured({}, clock)  # what is made once a process
    for _ in range(rounds):
        for name, strategy in made.items():
            results[name].append(measured(strategy, clock))
    joint = results["joint"]
    size = sum(p.numel() for p in learner_of(SETTING, {}, 1).model.parameters())
    base = statistics.median(seconds for seconds, _ in joint)
    print(f"joint step {1e3 * base:.0f} ms, P = {size}\n\n| method | step / joint | extra memory | its weights |")
    print("|---|--:|--:|--:|")
    for name, runs in results.items():
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(runs, joint, strict=True))
        extra = round((runs[0][1] - joint[0][1]) / 4 / size, 1) + 0.0  # no -0.0
        own = f"{weighing(name, made[name], clock) / base:.2%}" if name.startswith(("weighting", "surgery")) else ""
        print(f"| {name} | {ratio:.2f} | {extra:.1f} P | {own} |")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="CPU seconds, for a machine that does other work besides")
    parser.add_argument("--families", nargs="*", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--only", nargs="*", help="names as the table prints them; joint is always measured")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, medians of {options.rounds} rounds\n")
    made = strategies(options.families)
    wanted = made if options.only is None else ["joint", *options.only]
    table(
        {name: made[name] for name in wanted}, options.rounds, time.process_time if options.cpu else time.perf_counter
    )


if __name__ == "__main__":
    main()
