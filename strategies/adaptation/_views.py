"""The eight symmetries of the square, and what a network answers under them. Shapes: images [B, 3, H, W]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.adaptation import AdaptationContext

SYMMETRIES = 8
"""Rotations by 0, 90, 180 and 270 degrees, each without and with a flip."""


def turned(image: Tensor, number: int) -> Tensor:
    """Return T_j of images [B, C, H, W] for j in 0 .. 7; j = 0 is the identity. Odd j exchange H and W."""
    flipped = image.flip(3) if number >= 4 else image
    return flipped.rot90(number % 4, (2, 3)).contiguous(memory_format=torch.channels_last)


def turned_back(image: Tensor, number: int) -> Tensor:
    """Return T_j^-1 of images [B, C, H, W]."""
    straight = image.rot90(-(number % 4), (2, 3))
    return straight.flip(3) if number >= 4 else straight


def mean_of_views(answer: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Return the mean of T_j^-1 f(T_j x) over the eight symmetries, for f = `answer` and images x [B, C, H, W]."""
    total = torch.zeros_like(image)
    for number in range(SYMMETRIES):
        total = total + turned_back(answer(turned(image, number)), number)
    return total / SYMMETRIES


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
