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

    With `normalise: raw` this is exactly the gradient of (prod l_k)^(1/K). w does not change when all losses are scaled
    alike. Scaling one task's loss does not change the proportions of w_k l_k among the tasks.
    """

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        logs = bounded(losses).log()  # [K]
        return (logs.mean() - logs).exp()
