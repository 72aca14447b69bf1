"""Instance normalization that several networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


def instance_norm(x: Tensor) -> Tensor:  # [B, C, H, W]
    """Normalize every channel of every image over its pixels: biased variance, no parameters.

    F.instance_norm gives wrong gradients for a batch of one whose gradient is in channels_last memory (torch 2.13).
    """
    return F.layer_norm(x, x.shape[2:], eps=EPSILON)


class InstanceNorm(nn.Module):
    """`instance_norm` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return instance_norm(x)


class AffineInstanceNorm(nn.Module):
    """`instance_norm` with a scale and a shift per channel, under the names that nn.InstanceNorm2d gives them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return instance_norm(x) * self.weight[:, None, None] + self.bias[:, None, None]
