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

    After the step it looks at the same batch again: delta = log l - log l'; xi takes a step of Adam along
    z (delta - z . delta) + gamma xi, so the task that gained least gets more weight.
    Over the tasks present; the authors' min_losses (lower bounds of the losses) are 0.
    """

    looks_again: ClassVar[bool] = True
    cost: ClassVar[Cost] = Cost(backward_passes="1, and a second forward pass")

    lr: float = Field(0.025, gt=0)
    """Adam's rate for xi."""
    gamma: float = Field(1e-3, ge=0)
    """Decay of xi, added to its gradient as the authors' Adam does."""

    def reset(self) -> None:
        """No task seen; xi starts at 0."""
        self._state = {"xi": _adam.fresh(), "before": {}}

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """losses [K] -> weights [K], of sum 1."""
        losses = bounded(losses)
        scatter(self.state["before"], context.rows, losses)
        share = torch.softmax(_adam.values(self.state["xi"], context.rows, losses), 0) / losses  # z / l [K]
        return share / share.sum()

    def after_step(self, context: StepContext) -> None:
        """Move xi by what each task gained in the step."""
        assert context.losses_again is not None
        after = bounded(context.losses_again().double())  # [K]
        before = gather(self.state["before"], context.rows, after)
        xi = _adam.values(self.state["xi"], context.rows, after)
        z, delta = torch.softmax(xi, 0), before.log() - after.log()
        _adam.step(self.state["xi"], context.rows, z * (delta - z @ delta) + self.gamma * xi, self.lr)
