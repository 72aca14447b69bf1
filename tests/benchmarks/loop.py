"""Our loop against a bare PyTorch loop on the same model and batches, and a pcgrad step against a joint step.

    python -m tests.benchmarks.loop [--threads 2]

ahead: the loop that draws ahead, free core or not, against itself with every step's samples drawn in that step.
samples: what a step waits for them, as a share of it, drawn ahead and drawn in their step.

Every pair is timed in turn, A B A B, in one process; the figures are medians and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch

from cmtl_ir.backbones.building import initial_model
from cmtl_ir.config.reading import validate
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training import loop as training
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests.tiny import Silent

SETTINGS: dict[str, dict[str, Any]] = {
    "quickstart: 75k, 48x48, B=12, K=3": {
        "network": {"name": "nafnet", "width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1]},
        "patch": 48, "batch": 12, "tasks": 3, "steps": 30,
    },
    "1.1M, 64x64, B=10, K=5": {
        "network": {"name": "nafnet", "width": 16, "encoder": [1, 1, 1, 1], "middle": 1, "decoder": [1, 1, 1, 1]},
        "patch": 64, "batch": 10, "tasks": 5, "steps": 10,
    },
}  # fmt: skip
TASKS = {
    "noise": {"degradation": "gaussian_noise"},
    "rain": {"degradation": "rain_streaks"},
    "haze": {"degradation": "haze"},
    "strong_noise": {"degradation": "gaussian_noise", "sigma": [50]},
    "light_noise": {"degradation": "gaussian_noise", "sigma": [15]},
}
ROUNDS = 7


def learner_of(setting: dict[str, Any], strategy: dict[str, Any], steps: int) -> Learner:
    """A learner on the embedded photographs."""
    tasks = dict(list(TASKS.items())[: setting["tasks"]])
    raw = {
        "name": "loop", "tasks": tasks, "data": {"patch": setting["patch"]}, "backbone": setting["network"],
        "training": {"steps": steps, "batch": setting["batch"], "clip": 1.0, "optimizer": {"lr": 1e-3}},
        "strategies": {"one": strategy},
    }  # fmt: skip
    made, device = validate(raw, "loop"), torch.device("cpu")
    return Learner(made, made.strategies["one"], build_tasks(made.tasks, made.data, 0, device), 0, device)


def ours(setting: dict[str, Any], strategy: dict[str, Any], steps: int) -> Callable[[], None]:
    """A call that trains `steps` steps through the loop."""
    learner = learner_of(setting, strategy, steps)

    def go() -> None:
        learner.finished, learner.step = (), 0
        train(learner, Silent())

    return go


def bare(setting: dict[str, Any], steps: int) -> Callable[[], None]:
    """The same model, optimizer, schedule, clipping and batches in a plain PyTorch loop."""
    learner = learner_of(setting, {}, steps)
    model = initial_model(setting["network"], 0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    counters = [0]

    def go() -> None:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        share = setting["batch"] // setting["tasks"]
        for _ in range(steps):
            ids = torch.arange(counters[0], counters[0] + share)
            counters[0] += share
            batches = [learner.batch(task, ids) for task in learner.tasks]
            degraded = torch.cat([batch.degraded for batch in batches]).to(memory_format=torch.channels_last)
            clean = torch.cat([batch.clean for batch in batches])
            optimizer.zero_grad(set_to_none=True)
            (model(degraded) - clean).abs().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    return go


def ratio(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """(median seconds of the second, median of first / second), timed in turn."""
    first(), second()
    pairs = []
    for _ in range(ROUNDS):
        times = []
        for call in (first, second):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        pairs.append(times)
    return statistics.median(b for _, b in pairs), statistics.median(a / b for a, b in pairs)


def with_room(room: bool, call: Callable[[], None]) -> Callable[[], None]:
    """The call, drawing ahead whether or not a core is free for it, or drawing every step's samples in that step."""

    def go() -> None:
        with patch.object(training, "has_room", lambda device: room):
            call()

    return go


@contextmanager
def waiting() -> Iterator[list[float]]:
    """While open: the seconds that steps spend to get their samples."""
    seconds: list[float] = []
    samples = training.next_samples

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        drawn = samples(*arguments)
        seconds.append(time.perf_counter() - start)
        return drawn

    with patch.object(training, "next_samples", timed):
        yield seconds


def share_of_samples(call: Callable[[], None]) -> float:
    """Median seconds that a step waits for its samples, as a share of the median step."""
    call()
    with waiting() as seconds:
        start = time.perf_counter()
        call()
        whole = time.perf_counter() - start
    return statistics.median(seconds) / (whole / len(seconds))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {ROUNDS} interleaved pairs")
    columns = ("bare ms/step", "joint / bare", "pcgrad / joint", "ahead / not", "samples", "not ahead")
    print(f"{'setting':36}", *(f"{column:>14}" for column in columns))
    for name, setting in SETTINGS.items():
        steps = setting["steps"]
        joint = ours(setting, {}, steps)
        seconds, loop = ratio(joint, bare(setting, steps))
        _, surgery = ratio(ours(setting, {"surgery": "pcgrad"}, steps), joint)
        _, ahead = ratio(with_room(True, joint), with_room(False, ours(setting, {}, steps)))
        waits = [share_of_samples(call) for call in (with_room(True, joint), with_room(False, joint))]
        figures = f"{1e3 * seconds / steps:14.1f} {loop:14.3f} {surgery:14.3f} {ahead:14.3f}"
        print(f"{name:36} {figures} {waits[0]:14.1%} {waits[1]:14.1%}")


if __name__ == "__main__":
    main()
