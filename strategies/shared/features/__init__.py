"""Feature spaces: maps of an image, in which contrast and perceptual losses measure distances.

A space is frozen, runs in float32 or float64 on images in [0, 1], and is differentiable in the image.
Shapes: B images [B, 3, H, W]; L maps, [B, C, h, w] each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Fixed = Literal["haar", "random", "vgg16", "vgg19"]
"""Spaces that do not depend on the run."""


@dataclass(frozen=True)
class Space:
    """Maps of an image and the weight of each map."""

    weights: tuple[float, ...]
    """[L] weights of the distances."""
    maps: Callable[[Tensor, str], Sequence[Tensor]]
    """(images [B, 3, H, W], name of their task) -> L maps; few spaces read the task."""

    def total(self, distances: Tensor) -> Tensor:  # [B, L] -> [B]
        """Return the weighted sum over the maps."""
        return (distances * distances.new_tensor(self.weights)).sum(-1)


def distances(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of each map of each sample, [B, L]."""
    return torch.stack([(a - b).abs().flatten(1).mean(1) for a, b in zip(one, other, strict=True)], 1)


def fixed_space(
    name: Fixed, file: str | None = None, normalise: bool = False, levels: Mapping[int, float] | None = None
) -> Space:
    """Return a space that does not depend on the run.

    `file` holds the weights of `vgg16` and `vgg19`; `normalise` applies ImageNet's mean and deviation before these.
    `levels` are modules of `vgg16` and their weights; `None`: relu1_2, relu2_2 and relu3_3 in equal parts.
    Raise UserError if the file is missing or does not hold such a network.
    """
    if name == "haar":
        from . import haar

        return Space(haar.WEIGHTS, haar.haar)
    if name == "random":
        from . import random

        return Space(random.WEIGHTS, random.Random())
    from .vgg import load

    assert file is not None
    return load(name, file, normalise, levels)
