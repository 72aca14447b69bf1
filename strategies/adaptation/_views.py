"""What a network answers under the eight symmetries of the square. Shapes: images [B, 3, H, W]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cmtl_ir.base.symmetries import SYMMETRIES, mean_of_views, turned, turned_back
from cmtl_ir.strategy.adaptation import AdaptationContext


@torch.no_grad()
def ensemble(network: nn.Module, image: Tensor, context: AdaptationContext) -> Tensor:
    """Return the mean answer [B, 3, h, w] over the eight symmetries in one pass each, in [0, 1], without a graph."""
    return mean_of_views(lambda view: context.forward(network, view), image).clamp(0.0, 1.0)


def spread(network: nn.Module, image: Tensor, target: Tensor, context: AdaptationContext, backward: bool) -> float:
    """Return the mean of |T_j^-1 f(T_j x) - target|^2 over the symmetries, channels and pixels.

    With `backward`, its gradient is added to the network's parameters, one view after the other.
    """
    total = 0.0
    with torch.set_grad_enabled(backward):
        for number in range(SYMMETRIES):
            view = turned_back(context.forward(network, turned(image, number)), number)
            loss = (view - target).square().mean() / SYMMETRIES
            if backward:
                loss.backward()
            total += loss.item()
    return total
