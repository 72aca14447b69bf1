"""The suite `mixed_sources`: noise on the images of another task, as on rainy photographs of a noisy camera."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from cmtl_ir.base import keyed
from cmtl_ir.suites.blocks import MIXED
from cmtl_ir.suites.line import Line
from cmtl_ir.tasks.config import TaskConfig
from cmtl_ir.tasks.task import Task, TestSample

NAME = "mixed_sources"
SIGMAS = (15.0, 25.0, 50.0)
ORDER = (
    "the task's degradation comes first; then noise is added to its 8-bit image, clipped to 0..255 and truncated to 8 "
    "bits. The noise depends on the image and sigma alone"
)


def lines(trained: Mapping[str, TaskConfig]) -> list[Line]:
    """Return three levels of noise after each trained task except Gaussian noise. Tasks may have pairs."""
    return [
        Line(NAME, name, f"then sigma {sigma:g}", MIXED, task, given=name, noise=sigma)
        for name, task in trained.items()
        if task.degradation is None or task.degradation.called != "gaussian_noise"
        for sigma in SIGMAS
    ]


@dataclass(frozen=True)
class Noisy:
    """The test images of a task with noise on top."""

    task: Task
    sigma: float

    def test_samples(self) -> Iterator[TestSample]:
        """Yield the test samples of the task, each with noise of its own."""
        for sample in self.task.test_samples():
            yield replace(sample, degraded=self._noisy(sample))

    def _noisy(self, sample: TestSample) -> torch.Tensor:
        key = keyed.name_key(NAME, sample.image, f"{self.sigma:g}")
        levels = (sample.degraded * 255).round()
        noise = keyed.normal(torch.tensor([key], device=levels.device), tuple(levels.shape[1:]))
        return (levels + noise * self.sigma).clamp(0, 255).floor() / 255
