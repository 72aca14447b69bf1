"""The control that costs eight passes and moves nothing."""

from __future__ import annotations

from torch import Tensor, nn

from cmtl_ir.base.symmetries import mean_of_views
from cmtl_ir.strategy.adaptation import AdaptationContext, Adapter
from cmtl_ir.strategy.registry import register


@register
class SelfEnsemble(Adapter):
    """Self-ensemble: the mean of T_j^-1 f(T_j x) over the eight symmetries (Timofte et al., CVPR 2016).

    Gains of test-time adaptation must be read against it. Cost: 8 forward passes per image.
    """

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        return mean_of_views(lambda view: context.restore(network, view), degraded)
