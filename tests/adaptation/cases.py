"""Small networks, and contexts around them, that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.adaptation.context import ImageContext
from cmtl_ir.adaptation.naming import adapter_from
from cmtl_ir.adaptation.origin import Origin
from cmtl_ir.adaptation.subject import OneNetwork
from cmtl_ir.config.experiment import Experiment
from tests import tiny

CPU = torch.device("cpu")
ALL = ["self_ensemble", "consistency", "redegrade", "norm_sam", "teacher_restore", "sure", "chain:decide=fixed"]
QUICK = {"redegrade": "samples=2", "norm_sam": "samples=2", "sure": "sigma=4"}
"""Fields that keep what an adapter prepares small, and the noise of which images that are noise are free."""

SMALL: dict[str, Any] = {
    "training": {"steps": 2}, "conflict": {"every": 0}, "evaluation": {"every": 0, "tile": 128},
    "tasks": {"haze": None}, "data": {"test_limit": 1},
}  # fmt: skip
"""Settings of the finished run that the tests of this folder share."""


class Function(nn.Module):
    """A function of images and a parameter w, which starts at 1 and is a vector of 4 where asked."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], count: int = 1) -> None:
        super().__init__()
        self.function = function
        self.w = nn.Parameter(torch.ones(count))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return self.function(x, self.w)


class Mixing(nn.Module):
    """A convolution, a normalisation and a skip: not equivariant to the symmetries; task 1 is brighter than task 0."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.GroupNorm(1, 3)
        with torch.no_grad():
            for one in self.parameters():
                one.copy_(0.3 * torch.randn(one.shape, generator=generator))
            self.norm.weight.add_(1.0)

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        return x + 0.1 * self.norm(self.conv(x)) + 0.05 * task[:, None, None, None]


def subject(model: nn.Module, experiment: Experiment | None = None, tile: int = 1024) -> OneNetwork:
    """The network as a run of the tasks of an experiment; `None`: of the tiny one."""
    found = experiment or tiny.experiment()
    known = list(found.tasks)
    return OneNetwork(model.eval(), known, Origin(lambda: found, known, 0, CPU), tile, CPU)


def context(model: nn.Module, experiment: Experiment | None = None, image: str = "image") -> ImageContext:
    return ImageContext(subject(model, experiment), image, None, 0)


def adapter(name: str, **fields: Any) -> Any:
    """An adapter with an empty state."""
    made = adapter_from(name).model_copy(update=fields)
    made.reset()
    return made


def image(height: int = 20, width: int = 28, seed: int = 0) -> Tensor:
    """An image [1, 3, H, W] in .1 .. .9."""
    return 0.1 + 0.8 * torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
