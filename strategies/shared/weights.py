"""Weights as one vector, and crops that stay the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Learner, Stage

from .tasks import own_tasks


def trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def weights_of(model: nn.Module) -> Tensor:
    """[P], with its graph: the penalty's gradient flows back through it."""
    return torch.cat([parameter.flatten() for parameter in trained(model)])


def device_of(learner: Learner) -> torch.device:
    """Where the run's weights are."""
    return next(learner.model.parameters()).device


def fixed_crops(stage: Stage, count: int) -> list[tuple[str, Tensor]]:
    """`count` (task, id [1]), the first ones of every task that the stage trained, in equal parts."""
    tasks = own_tasks(stage) or sorted({row.rpartition(":")[2] for row in stage.mixture})
    quota = [count // len(tasks) + (i < count % len(tasks)) for i in range(len(tasks))]
    return [(task, torch.tensor([n])) for task, own in zip(tasks, quota, strict=True) for n in range(own)]


def mean_one(values: Tensor) -> float:
    """The factor that makes the mean over ALL parameters 1; all zeros stay zeros."""
    mean = float(values.double().mean())
    return 1.0 / mean if mean > 0 else 1.0
