"""Fast adaptive multitask optimisation: equal relative progress from loss values alone."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Cost, Weighting
from cmtl_ir.strategy.registry import register

from . import _adam
from ._named import bounded, gather, scatter


@register
class Famo(Weighting):
    """FAMO (Liu et al., NeurIPS 2023, Alg. 1; authors' code): z = softmax(xi), w = (z / l) / sum(z / l).

    After the step, the losses l' of the same batch are evaluated again: delta = log l - log l'. Then xi takes an Adam
    step along z (delta - z . delta) + gamma xi, so the task that gained least gets more weight. The sums run over the
    tasks present. The authors' min_losses (lower bounds of the losses) are 0.
    """

    looks_again: ClassVar[bool] = True
    cost: ClassVar[Cost] = Cost(backward_passes="1, and a second forward pass")

    lr: float = Field(0.025, gt=0)
    """Learning rate of Adam for xi."""
    gamma: float = Field(1e-3, ge=0)
    """Decay of xi, added to its gradient as in the authors' Adam."""

    def reset(self) -> None:
        """Reset to a state without tasks. xi starts at 0."""
        self._state = {"xi": _adam.fresh(), "before": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] of sum 1 for losses [K]."""
        losses = bounded(losses)
        scatter(self.state["before"], context.rows, losses)
        share = torch.softmax(_adam.values(self.state["xi"], context.rows, losses), 0) / losses  # z / l [K]
        return share / share.sum()

    def after_step(self, context: StepContext) -> None:
        """Update xi by the gain of each task in this step."""
        assert context.losses_again is not None
        after = bounded(context.losses_again().double())  # [K]
        before = gather(self.state["before"], context.rows, after)
        xi = _adam.values(self.state["xi"], context.rows, after)
        z, delta = torch.softmax(xi, 0), before.log() - after.log()
        _adam.step(self.state["xi"], context.rows, z * (delta - z @ delta) + self.gamma * xi, self.lr)
