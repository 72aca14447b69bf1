"""Learnt log-variances: each task's loss is divided by the value it tends to."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from . import _adam
from ._named import bounded


@register
class Uncertainty(Weighting):
    """Homoscedastic uncertainty (Kendall, Gal, Cipolla, CVPR 2018): s_k = log sigma_k^2 is learnt with the network.

    Form gaussian minimises sum (e^-s l + s) / 2, so w = e^-s / 2. Form laplace (the likelihood of an L1 loss) minimises
    sum e^-s l + s, so w = e^-s, twice the gaussian weight. At equilibrium e^s = l, so every task's weighted loss is the
    same. `imtl_l` is laplace with s -> -s. They are ONE method, never three rows of a table. s has its own Adam and is
    not a parameter of the network's optimizer.
    """

    sign: ClassVar[float] = -1.0
    """Sign of s in the exponent."""

    form: Literal["gaussian", "laplace"] = "gaussian"
    """Likelihood of the loss."""
    lr: float = Field(0.01, gt=0)
    """Learning rate of Adam for s [ours]. Published codes use the network's own; at 1e-4 a run of 900 steps moves s by
    .09."""

    def reset(self) -> None:
        """Reset to a state without tasks. s starts at 0."""
        self._state = _adam.fresh()

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return weights [K] for losses [K], from s before its step on this batch."""
        half = 0.5 if self.form == "gaussian" else 1.0
        weights = half * (self.sign * _adam.values(self.state, context.rows, losses)).exp()  # [K]
        gradient = self.sign * (weights * bounded(losses) - half)  # [K]
        _adam.step(self.state, context.rows, gradient, self.lr)
        return weights
