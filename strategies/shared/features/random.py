"""Untrained convolutions: the control that tells perceptual features from any nonlinear map."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base import keyed

WEIGHTS = (1 / 7, 2 / 7, 4 / 7)
CHANNELS = (3, 16, 32, 64)
STRIDES = (1, 2, 2)


class Random:
    """Three 3 x 3 convolutions without bias, each followed by ReLU, with the same weights in every run."""

    def __init__(self) -> None:
        self.kernels = [_kernel(level) for level in range(len(STRIDES))]

    def __call__(self, images: Tensor, task: str = "") -> list[Tensor]:  # [B, 3, H, W]
        """Return the three maps, [B, 16, H, W], [B, 32, H/2, W/2] and [B, 64, H/4, W/4]."""
        maps, h = [], images
        for level, stride in enumerate(STRIDES):
            if self.kernels[level].device != images.device:
                self.kernels[level] = self.kernels[level].to(images.device)
            h = F.relu(F.conv2d(h, self.kernels[level].to(images.dtype), stride=stride, padding=1))
            maps.append(h)
        return maps


def _kernel(level: int) -> Tensor:
    inputs, outputs = CHANNELS[level : level + 2]
    key = torch.tensor([keyed.name_key(0, "features", level)])
    return keyed.normal(key, (outputs, inputs, 3, 3))[0].double() * math.sqrt(2 / (9 * inputs))
