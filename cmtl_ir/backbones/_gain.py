"""Pieces of IR-SDE's networks: the norm with a gain and the embedding of time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


class GainNorm(nn.Module):
    """LayerNorm over the channels of each pixel with a scale `g` and without shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        pixels = x.permute(0, 2, 3, 1)
        return F.layer_norm(pixels, pixels.shape[3:], eps=EPSILON).permute(0, 3, 1, 2) * self.g


def time_embedding(t: Tensor, channels: int) -> Tensor:  # [B] -> [B, channels]
    """Sines, then cosines of t times frequencies from 1 to 1 / 10000."""
    half = channels // 2
    frequencies = (torch.arange(half, device=t.device, dtype=t.dtype) * (-math.log(10000) / (half - 1))).exp()
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
