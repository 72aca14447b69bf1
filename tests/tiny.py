"""An experiment that trains in a second, on the embedded photographs."""

from __future__ import annotations

from typing import Any

import torch

from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import merged, validate
from cmtl_ir.strategy.data import Stage
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult

RAW: dict[str, Any] = {
    "name": "tiny",
    "tasks": {
        "noise": {"degradation": "gaussian_noise", "sigma": [25]},
        "rain": {"degradation": "rain_streaks"},
        "haze": {"degradation": "haze"},
    },
    "data": {"clean": "embedded", "patch": 16, "test_crop": 48},
    "backbone": {"name": "nafnet", "width": 4, "encoder": [1], "middle": 1, "decoder": [1]},
    "training": {"steps": 12, "batch": 6, "optimizer": {"lr": 4e-3}, "clip": 1.0},
    "evaluation": {"every": 5},
    "conflict": {"every": 4},
    "checkpoint": {"every": 5},
}


def experiment(strategies: dict[str, Any] | None = None, **overrides: Any) -> Experiment:
    """The tiny experiment with other strategies and overridden keys (deep merge)."""
    raw = merged(RAW, overrides)
    return validate({**raw, "strategies": strategies or {"joint": {}}}, "tiny")


def learner(strategy: dict[str, Any] | None = None, seed: int = 0, **overrides: Any) -> Learner:
    """A learner under one strategy."""
    made = experiment({"one": strategy or {}}, **overrides)
    device = torch.device("cpu")
    return Learner(made, made.strategies["one"], build_tasks(made.tasks, made.data, seed, device), seed, device)


class Silent:
    """A watcher that keeps what it sees."""

    def __init__(self, look_every: int = 0) -> None:
        self.look_every, self.results, self.ends = look_every, list[StepResult](), list[str]()

    def wants_gradients(self, step: int) -> bool:
        return self.look_every > 0 and step % self.look_every == 0

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        pass

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        self.results.append(result)

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self.ends.append(stage.name)


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    """A copy of the model's weights."""
    return {name: value.clone() for name, value in learner.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
