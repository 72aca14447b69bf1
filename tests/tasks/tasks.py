"""Tasks for tests, made as an experiment file makes them, and a degradation that writes down where it acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from tests.tasks.files import write

CPU = torch.device("cpu")
IDS = torch.arange(3, 23)


class Position(Degradation):
    """Writes down where it acts: the place of every pixel in the full image, and a number from its key."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"shade": keyed.uniform(keyed.substream(keys, "shade"))}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        degraded = torch.empty_like(clean)
        degraded[:, 0] = (origin[:, :1] + torch.arange(clean.shape[2]))[:, :, None] / size[:, :1, None]
        degraded[:, 1] = (origin[:, 1:] + torch.arange(clean.shape[3]))[:, None, :] / size[:, 1:, None]
        degraded[:, 2] = parameters["shade"][:, None, None]
        return degraded

    def variants(self) -> dict[str, Degradation]:
        return {"light": self, "heavy": self}


def built(tasks: dict[str, Any], seed: int = 0, **data: Any) -> dict[str, Task]:
    read = {name: TaskConfig.model_validate(task) for name, task in tasks.items()}
    return build_tasks(read, DataConfig.model_validate(data), seed, CPU)


def task_of(task: dict[str, Any], **data: Any) -> Task:
    return built({"one": task}, **data)["one"]


def equal(one: Batch, other: Batch) -> bool:
    """Equal to the last bit."""
    return torch.equal(one.degraded, other.degraded) and torch.equal(one.clean, other.clean)


def positioned_task(root: Path) -> Task:
    """A task whose clean image says at every pixel where it is, so that its degradation can be checked against it."""
    y, x = np.mgrid[0:30, 0:50]
    write(root / "a.png", np.stack([y, x, 0 * x], axis=2).astype(np.uint8))
    task = task_of({"degradation": "haze"}, clean=str(root), test=str(root), patch=16)
    task.degradation = Position()
    return task
