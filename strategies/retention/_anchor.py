"""Base of the penalties on weights: per-sample importance, and a quadratic pull back to old weights.

Shapes: P trained parameters, flattened in the order of `parameters()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.strategy.data import Batch, Learner, Stage
from cmtl_ir.strategy.parts import Cost, Retention

from ..shared.weights import fixed_crops, trained, weights_of


def importance(
    stage: Stage, learner: Learner, count: int, objective: Callable[[Batch], Tensor], size: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the mean [P], over fixed crops, of `size` of the gradient of ONE sample's objective, in eval mode.

    Squares of batch means would underestimate it, by a factor of .08-.15 at a batch of 32.
    """
    parameters = trained(learner.model)
    total = torch.zeros_like(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    training = learner.model.training
    learner.model.eval()
    for task, ids in fixed_crops(stage, count):
        loss = objective(learner.batch(task, ids))
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        total += size(torch.cat([gradient.flatten() for gradient in gradients]))
    learner.model.train(training)
    return total / count


class Anchored(Retention):
    """A penalty that pulls the weights back to their values at the end of earlier stages.

    It is strength * sum_i importance_i (w_i - w*_i)^2.
    """

    cost: ClassVar[Cost] = Cost(memory="2 P: importance and old weights")

    strength: float = Field(1.0, ge=0)
    """lambda: factor of the penalty."""

    def reset(self) -> None:
        self._state = {"anchors": []}

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return the penalty, exactly 0 at the old weights, or `None` before the second stage and for strength 0."""
        if not self.state["anchors"] or self.strength == 0:
            return None
        weights = weights_of(model)
        pulls = [
            a["scale"] * (a["importance"] * (weights - a["weights"]).square()).sum() for a in self.state["anchors"]
        ]
        return self.strength * torch.stack(pulls).sum()

    def anchor(self, learner: Learner, values: Tensor, scale: float = 1.0) -> dict[str, Any]:
        """Return the record of a stage: the current weights, their importance [P] and its scale."""
        return {"weights": weights_of(learner.model).detach(), "importance": values, "scale": scale}
