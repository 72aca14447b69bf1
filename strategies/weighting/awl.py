"""Adaptive weighted loss: learnt scales with a bounded penalty."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from . import _adam
from ._named import bounded

SMALL = 1e-8


@register
class Awl(Weighting):
    """The adaptive weights of TAT (Yang et al., MICCAI 2025): minimises sum l / (2 u^2) + log(1 + u^2) / 2 over u.

    w = 1 / (2 u^2). At equilibrium u^2 = (l + sqrt(l^2 + 4 l)) / 2, so that for small losses w falls as l^(-1/2): it
    is milder than `uncertainty`.

    Departure: u is one number per task with an Adam of its own, from 1. The authors' comes from a small network that
    reads the losses of single samples, so that it weighs samples instead of tasks.
    """

    lr: float = Field(0.01, gt=0)
    """Learning rate of Adam for u [ours]. The authors train their small network at 2e-4."""

    def reset(self) -> None:
        """Reset to a state without tasks. u starts at 1."""
        self._state = _adam.fresh()

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from u before its step on this batch."""
        u = 1.0 + _adam.values(self.state, context.rows, losses)
        square = u.square() + SMALL
        _adam.step(self.state, context.rows, u / (1.0 + u.square()) - bounded(losses) * u / square.square(), self.lr)
        return 0.5 / square
