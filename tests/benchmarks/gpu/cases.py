"""Sizes, networks and tasks of the GPU table, and the measurement of steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from cmtl_ir.config.reading import validate
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests.tiny import Silent

SMALL: dict[str, dict[str, Any]] = {
    "nafnet": {"name": "nafnet", "width": 4, "encoder": [1], "middle": 1, "decoder": [1]},
    "promptir": {"name": "promptir", "width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1},
    "restormer": {"name": "restormer", "width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1},
}


@dataclass(frozen=True)
class Sizes:
    """The device, and whether everything is as small as a test needs it."""

    device: str
    tiny: bool

    @property
    def warm(self) -> int:
        """Steps before the measured ones."""
        return 1 if self.tiny else 5

    @property
    def seconds(self) -> float:
        """Time for which the steps of one case are measured."""
        return 0.0 if self.tiny else 4.0

    def backbone(self, name: str) -> dict[str, Any]:
        """Return the fields of a network: the authors' sizes, which are the defaults (NAFNet: width 32)."""
        return SMALL[name] if self.tiny else {"name": name}

    def cases(self) -> list[Case]:
        """Return the three networks with the batch of one GPU and the crops of their authors."""
        sides = {"nafnet": (256, 32), "promptir": (128, 8), "restormer": (128, 8)}
        if self.tiny:
            sides = dict.fromkeys(sides, (16, 2))
        return [Case(name, self.backbone(name), *sides[name]) for name in sides]


@dataclass(frozen=True)
class Case:
    """A network, the side of its crops and its batch."""

    name: str
    backbone: dict[str, Any]
    patch: int
    batch: int

    @property
    def title(self) -> str:
        """Name, crop and batch, as in the first column of the tables."""
        return f"{self.name}, {self.patch}x{self.patch}, batch {self.batch}"


def machine(sizes: Sizes) -> str:
    """Return the device, the versions and the settings that the figures depend on."""
    named = torch.cuda.get_device_name() if sizes.device.startswith("cuda") else "CPU"
    switches = (
        f"TF32 in convolutions {torch.backends.cudnn.allow_tf32}, in products {torch.backends.cuda.matmul.allow_tf32}"
    )
    return f"{time.strftime('%Y-%m-%d')}, {named}, torch {torch.__version__}, CUDA {torch.version.cuda}; {switches}"


def learner_of(
    sizes: Sizes, case: Case, strategy: dict[str, Any] | None = None, tasks: int = 1, **training: Any
) -> Learner:
    """Return a learner on the embedded photographs. Its tasks are `tasks` strengths of noise."""
    named = {f"noise_{k}": {"degradation": "gaussian_noise", "sigma": [5 + 3 * k]} for k in range(tasks)}
    raw = {
        "name": "gpu", "tasks": named, "data": {"patch": case.patch}, "backbone": case.backbone,
        "training": {"steps": 100_000, "batch": case.batch, "optimizer": {"lr": 2e-4}, **training},
        "strategies": {"one": strategy or {}},
    }  # fmt: skip
    made, device = validate(raw, "gpu"), torch.device(sizes.device)
    return Learner(made, made.strategies["one"], build_tasks(made.tasks, made.data, 0, device), 0, device)


def finished(device: str) -> float:
    """Wait until the device has done what it was given, and return the time."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


class Window:
    """Counts steps: some that warm up, then as many as fit into the measured time."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes, self.steps, self.since = sizes, 0, 0.0
        self.first = 0.0
        """Seconds of the first step, in which kernels are chosen and networks compiled."""
        self.seconds = 0.0
        """Mean seconds of a measured step."""
        self._begin = finished(sizes.device)

    def step_done(self) -> bool:
        """Count a step. Return whether the measurement has ended."""
        self.steps += 1
        if self.steps == 1:
            self.first = finished(self.sizes.device) - self._begin
        if self.steps == self.sizes.warm:
            self.since = finished(self.sizes.device)
        if self.steps <= self.sizes.warm or time.perf_counter() - self.since < self.sizes.seconds:
            return False
        self.seconds = (finished(self.sizes.device) - self.since) / (self.steps - self.sizes.warm)
        return True


class Stopper(Silent):
    """Ends the training loop when the window is full."""

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def stepped(self, learner: Learner, result: Any, rate: float) -> None:
        """Count the step."""
        if self.window.step_done():
            raise StopIteration


def measured(learner: Learner, sizes: Sizes) -> Window:
    """Train through the loop until the window is full."""
    window = Window(sizes)
    with suppress(StopIteration):
        train(learner, Stopper(window))
    return window


def with_peak(sizes: Sizes, work: Callable[[], Window]) -> tuple[Window, str]:
    """Return what `work` returns, with the peak memory of the device in GB ("-" on a CPU)."""
    if not sizes.device.startswith("cuda"):
        return work(), "-"
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    window = work()
    return window, f"{torch.cuda.max_memory_allocated() / 1e9:.2f}"
