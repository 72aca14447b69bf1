"""Attention between channels and gated feed-forward with optional biases, for the descendants of Restormer.

Shapes: B images, C channels, H x W pixels, n heads of c = C / n channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend_channels(query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
    """Attention between the channels of each head; queries and keys are normalised along the pixels.

    Args:
        query, key, value: [B, C, H, W] each.
        temperature: [n, 1, 1], one factor of the logits per head.

    Returns:
        [B, C, H, W].
    """
    batch, channels, height, width = query.shape
    heads = temperature.shape[0]

    def split(x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, n, c, HW]
        return x.reshape(batch, heads, channels // heads, height * width)

    logits = F.normalize(split(query), dim=-1) @ F.normalize(split(key), dim=-1).mT
    return ((logits * temperature).softmax(-1) @ split(value)).reshape(batch, channels, height, width)


def depthwise(channels: int, size: int, bias: bool) -> nn.Conv2d:
    """A depthwise convolution that keeps the image's size."""
    return nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=bias)


class ChannelAttention(nn.Module):
    """MDTA of Restormer with or without biases."""

    def __init__(self, channels: int, heads: int, bias: bool = False) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = depthwise(3 * channels, 3, bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        return self.project_out(attend_channels(query, key, value, self.temperature))


class CrossChannelAttention(nn.Module):
    """Channel attention whose queries come from one map, keys and values from another; bias-free."""

    def __init__(self, channels: int, heads: int, size: int = 3) -> None:
        """`size`: side of the depthwise kernel of keys and values."""
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.q_dwconv = depthwise(channels, 3, bias=False)
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.kv_dwconv = depthwise(2 * channels, size, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:  # [B, C, H, W] each
        key, value = self.kv_dwconv(self.kv(other)).chunk(2, dim=1)
        return self.project_out(attend_channels(self.q_dwconv(self.q(x)), key, value, self.temperature))


class GatedFeedForward(nn.Module):
    """GDFN of Restormer with or without biases."""

    def __init__(self, channels: int, expansion: float, bias: bool = False) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = depthwise(2 * hidden, 3, bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        first, second = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(first) * second)
