"""The gradient of the geometric mean of the losses."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.strategy.registry import register

from ._named import bounded


@register
class Geometric(Weighting):
    """Geometric loss strategy (Chennupati et al., CVPR Workshops 2019): w_k = GM(l) / l_k.

    The gradient of (prod l_k)^(1/K), with `normalise: raw` exactly; w does not change when all losses are scaled alike,
    and scaling one task's loss does not change w_k l_k among the tasks.
    """

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """losses [K] -> weights [K]."""
        logs = bounded(losses).log()  # [K]
        return (logs.mean() - logs).exp()
