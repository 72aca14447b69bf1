"""Nash bargaining between rows: the update maximises the product of their gains."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery
from .fairgrad import alpha_fair


@register
class NashMtl(GramianSurgery):
    """Nash-MTL (Navon et al., ICML 2022, arXiv 2202.01017, Algorithm 1 and Claim 3.1): G w = 1 / w.

    This is FairGrad at alpha 1, solved to rounding error. The authors iterate a convex approximation from the last
    step's weights, and keep these if it fails. Their default `max_norm` 1 always clips, because the bargaining solution
    has length sqrt K for any gradients, and so it fixes the update's length. Clipping is off by default here.
    """

    max_norm: float = Field(default=0.0, ge=0.0)
    """0: the length follows the gradients; above 0: the published solution, of length sqrt K, clipped to this
    length."""

    @property
    def keeps_direction(self) -> bool:
        """True, because G w = 1 / w scales each row separately."""
        return True

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        v = super().weights(gramian, losses, context)
        length = float((v @ gramian @ v).clamp(min=0.0).sqrt())
        if self.max_norm == 0.0 or length == 0.0:
            return v
        live = int(torch.count_nonzero(gramian.diagonal()))
        return v * (min(self.max_norm, live**0.5) / length)

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """Return v [K] for G [K, K]. Zero rows get 1/K."""
        v, ridged = alpha_fair(gramian, 1.0)
        if ridged:
            self.count_guard()
        return v
