"""The control: the network as it was trained."""

from __future__ import annotations

from torch import Tensor, nn

from cmtl_ir.strategy.adaptation import AdaptationContext, Adapter
from cmtl_ir.strategy.registry import register


@register
class NoAdaptation(Adapter):
    """No adaptation: one plain pass."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        return context.restore(network, degraded)
