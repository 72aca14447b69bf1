"""Our loop against a bare PyTorch loop on the same model and batches, and a pcgrad step against a joint step.

    python -m tests.benchmarks.loop

Every pair is timed in turn, A B A B, in one process; the figures are medians and their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from cmtl_ir.config import validate
from cmtl_ir.learner import Learner, initial_model
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training import train
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


def main() -> None:
    """Print the table."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {ROUNDS} interleaved pairs")
    print(f"{'setting':36} {'bare ms/step':>13} {'joint / bare':>13} {'pcgrad / joint':>15}")
    for name, setting in SETTINGS.items():
        steps = setting["steps"]
        seconds, loop = ratio(ours(setting, {}, steps), bare(setting, steps))
        _, surgery = ratio(ours(setting, {"surgery": "pcgrad"}, steps), ours(setting, {}, steps))
        print(f"{name:36} {1e3 * seconds / steps:13.1f} {loop:13.3f} {surgery:15.3f}")


if __name__ == "__main__":
    main()
