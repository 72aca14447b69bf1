"""Task uncertainty regularisation: learnt scales, one per task."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from . import _adam
from ._named import bounded


@register
class Tur(Weighting):
    """TUR (Wu et al., AAAI 2025): minimises sum l / u + 2 log u over learnt scales u, so w = 1 / u.

    At equilibrium u = l / 2 and w = 2 / l, twice the weight of `uncertainty` with `form: laplace`. Under mean1 both
    tend to the same weights: they are ONE method, never two rows of a table.

    Departures: u is one number per task with an Adam of its own on log u. The authors' u comes from a head of the
    network, averaged over the task's samples. Their loss for AirNet adds up the losses of earlier tasks, a mistake.
    """

    lr: float = Field(0.01, gt=0)
    """Learning rate of Adam for log u [ours]."""

    def reset(self) -> None:
        """Reset to a state without tasks. log u starts at 0."""
        self._state = _adam.fresh()

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from log u before its step on this batch."""
        weights = (-_adam.values(self.state, context.rows, losses)).exp()
        _adam.step(self.state, context.rows, 2.0 - weights * bounded(losses), self.lr)
        return weights
