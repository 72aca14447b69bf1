"""Trained weights as one vector, and a fixed choice of training crops."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Learner, Stage

from .tasks import own_tasks


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def weights_of(model: nn.Module) -> Tensor:
    """Return the trained weights [P] with their graph, so that a penalty's gradient flows back through them."""
    return torch.cat([parameter.flatten() for parameter in trained(model)])


def device_of(learner: Learner) -> torch.device:
    """Return the device of the run's weights."""
    return next(learner.model.parameters()).device


def fixed_crops(stage: Stage, count: int) -> list[tuple[str, Tensor]]:
    """Return `count` pairs (task, id [1]): the first ids of every task that the stage trained, in equal parts."""
    tasks = own_tasks(stage) or sorted({row.rpartition(":")[2] for row in stage.mixture})
    quota = [count // len(tasks) + (i < count % len(tasks)) for i in range(len(tasks))]
    return [(task, torch.tensor([n])) for task, own in zip(tasks, quota, strict=True) for n in range(own)]


def mean_one(values: Tensor) -> float:
    """Return the factor that scales the mean over ALL parameters to 1, or 1 if all values are zero."""
    mean = float(values.double().mean())
    return 1.0 / mean if mean > 0 else 1.0
