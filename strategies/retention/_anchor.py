"""What the penalties on weights share: weights as one vector, importance per sample, a quadratic pull back.

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
    """[P]: mean over fixed crops of `size` of the gradient of ONE sample's objective, in eval mode.

    Squares of batch means would underestimate: x .08-.15 at a batch of 32.
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
    """Pulls the weights back to where earlier stages left them: strength * sum_i importance_i (w_i - w*_i)^2."""

    cost: ClassVar[Cost] = Cost(memory="2 P: importance and old weights")

    strength: float = Field(1.0, ge=0)
    """lambda."""

    def reset(self) -> None:
        """No stage has left weights yet."""
        self._state = {"anchors": []}

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Exactly 0 where the weights are the old ones; None before the second stage."""
        if not self.state["anchors"] or self.strength == 0:
            return None
        weights = weights_of(model)
        pulls = [
            a["scale"] * (a["importance"] * (weights - a["weights"]).square()).sum() for a in self.state["anchors"]
        ]
        return self.strength * torch.stack(pulls).sum()

    def anchor(self, learner: Learner, values: Tensor, scale: float = 1.0) -> dict[str, Any]:
        """What is kept of a stage: the weights as they are, their importance [P], and its unit."""
        return {"weights": weights_of(learner.model).detach(), "importance": values, "scale": scale}
