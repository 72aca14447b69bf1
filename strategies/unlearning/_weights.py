"""Weights as one vector, gradients of single samples, and importance of weights. P: trained parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner

from ..shared.weights import trained, weights_of

__all__ = ["gradients", "importance", "loss_of", "pull_back", "trained", "weights_of", "write"]

Objective = Callable[[Batch], Tensor]


def loss_of(learner: Learner) -> Objective:
    """Return the function that computes the run's mean loss of a batch."""
    return lambda batch: learner.sample_losses(learner.restore(batch), batch).mean()


def gradients(
    learner: Learner, tasks: Sequence[str], count: int, objective: Objective, size: int = 1
) -> Iterator[Tensor]:
    """Yield the gradient [P] of each batch of `size` samples, in eval mode.

    The batches hold the first `count` samples of the tasks, in equal parts.
    """
    parameters, training = trained(learner.model), learner.model.training
    learner.model.eval()
    for task in tasks:
        for ids in torch.arange(max(1, count // len(tasks))).split(size):
            value = objective(learner.batch(task, ids))
            found = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
            yield torch.cat([gradient.flatten() for gradient in found])
    learner.model.train(training)


def importance(
    learner: Learner,
    tasks: Sequence[str],
    count: int,
    objective: Objective,
    size: Callable[[Tensor], Tensor] = torch.square,
) -> Tensor:
    """Return the mean [P], over single samples, of `size` of the gradient of the objective."""
    total, number = torch.zeros(()), 0
    for gradient in gradients(learner, tasks, count, objective):
        total, number = total.to(gradient.device) + size(gradient).double(), number + 1
    return (total / number).float()


@torch.no_grad()
def write(model: nn.Module, flat: Tensor) -> None:
    """Set the trained weights to `flat` [P]."""
    start = 0
    for parameter in trained(model):
        parameter.copy_(flat[start : start + parameter.numel()].view(parameter.shape))
        start += parameter.numel()


def pull_back(model: nn.Module, strengths: Tensor, anchor: Tensor) -> Tensor:
    """Return 1/2 sum_i strengths_i (w_i - anchor_i)^2.

    The value and its gradient are exactly 0 where nothing has moved.
    """
    return 0.5 * (strengths * (weights_of(model) - anchor).square()).sum()
