"""Agreement of a network's answers under symmetries."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from cmtl_ir.strategy.adaptation import AdaptationContext
from cmtl_ir.strategy.registry import register

from ._moving import Moving
from ._views import ensemble, spread


@register
class Consistency(Moving):
    """Minimise mean_j |T_j^-1 f(T_j x) - target|^2 over the eight symmetries, with the mean answer as target.

    No paper's method. It cannot see what all eight views get wrong, and a constant answer has consistency 0: hence the
    fixed target and few steps. A network that is equivariant to the symmetries does not move.
    Cost: 8 forward passes, and 8 forward and backward passes per step, on the crop.
    """

    target: Literal["initial", "renewed"] = "initial"
    """initial: the mean answer before the first step; renewed: that before each step."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        if self.still:
            return context.restore(network, degraded)
        named, image = self.chosen(network, context), self.crop(degraded, context)
        initial = ensemble(network, image, context)

        def loss(step: int) -> float:
            renewed = self.target == "renewed" and step > 0
            return spread(network, image, ensemble(network, image, context) if renewed else initial, context, True)

        self.minimise(named, loss, context)
        return context.restore(network, degraded)
