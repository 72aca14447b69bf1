"""Copies of the network in training that take some steps on a single task. The run itself is not disturbed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from cmtl_ir.training.optimization import make_optimizer

if TYPE_CHECKING:
    from cmtl_ir.training.learner import Learner


def fine_tuned(learner: Learner, task: str, steps: int, rate: float) -> nn.Module:
    """Return a copy of the network after `steps` steps on one task alone, in eval mode and frozen.

    The optimizer is that of the run, new, at `rate` times its learning rate. The loss is the base objective alone. The
    samples are those that the task draws next, and its counter does not move.
    """
    network = copy.deepcopy(learner.model).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(learner.training.optimizer, parameters)
    for group in optimizer.param_groups:
        group["lr"] = rate * learner.training.optimizer.lr
    batch, begin = learner.training.batch, learner.data.counters.get(task, 0)
    for step in range(steps):
        samples = learner.batch(task, torch.arange(begin + step * batch, begin + (step + 1) * batch))
        learner.sample_losses(learner.restore(samples, network), samples).mean().backward()
        if learner.training.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, learner.training.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return network.eval().requires_grad_(False)
