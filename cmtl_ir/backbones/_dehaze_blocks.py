"""Blocks of DehazeFormer. Shapes: B images, C channels, H x W pixels, N windows of T = 64 pixels, n heads."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones.swinir import from_windows, windows_of

ConvKind = Literal["depthwise", "conv"]
WINDOW = 8
SHIFT = WINDOW // 2
POSITION_HIDDEN = 256
EPSILON = 1e-5


def reflected_conv(channels: int, outputs: int, size: int, groups: int = 1) -> nn.Conv2d:
    """A convolution that sees the image reflected at its border."""
    return nn.Conv2d(channels, outputs, size, padding=size // 2, groups=groups, padding_mode="reflect")


class RescaledNorm(nn.Module):
    """RLN: a norm over a whole sample, which also returns gain and shift that give the statistics back later."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.meta1 = nn.Conv2d(1, channels, 1)
        self.meta2 = nn.Conv2d(1, channels, 1)
        for meta, start in ((self.meta1, 1.0), (self.meta2, 0.0)):
            nn.init.trunc_normal_(meta.weight, std=0.02)
            nn.init.constant_(meta.get_parameter("bias"), start)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # -> [B, C, H, W], [B, C, 1, 1], [B, C, 1, 1]
        mean = x.mean((1, 2, 3), keepdim=True)
        deviation = (x.var((1, 2, 3), unbiased=False, keepdim=True) + EPSILON).sqrt()
        return (x - mean) / deviation * self.weight + self.bias, self.meta1(deviation), self.meta2(mean)


class Mlp(nn.Module):
    """Two pointwise convolutions with a relu between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class WindowAttention(nn.Module):
    """Attention inside windows, with a bias for each offset that a small network computes."""

    relative_positions: Tensor  # [T, T, 2]

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        y, x = torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")
        places = torch.stack([y.flatten(), x.flatten()], dim=1).to(torch.get_default_dtype())
        offsets = places[:, None] - places
        self.register_buffer("relative_positions", offsets.sign() * offsets.abs().log1p())
        self.meta = nn.Sequential(nn.Linear(2, POSITION_HIDDEN), nn.ReLU(), nn.Linear(POSITION_HIDDEN, heads))

    def forward(self, qkv: Tensor) -> Tensor:  # [B, N, T, 3C] -> [B, N, T, C]
        query, key, value = qkv.unflatten(3, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # [B, N, n, T, C / n]
        bias = self.meta(self.relative_positions).permute(2, 0, 1)  # [n, T, T]
        scores = query * query.shape[-1] ** -0.5 @ key.mT + bias
        return (scores.softmax(-1) @ value).transpose(2, 3).flatten(3)


class Mixer(nn.Module):
    """A local convolution, and where `attention` is true window attention added to it.

    The shift of the windows is a padding by reflection: nothing is rolled and nothing is masked.
    """

    def __init__(self, channels: int, heads: int, shifted: bool, attention: bool, kind: ConvKind) -> None:
        super().__init__()
        self.shift = SHIFT if shifted else 0
        if kind == "depthwise":
            self.conv: nn.Module = reflected_conv(channels, channels, 5, groups=channels)
        else:
            self.conv = nn.Sequential(
                reflected_conv(channels, channels, 3), nn.ReLU(), reflected_conv(channels, channels, 3)
            )
        if attention or kind == "depthwise":
            self.V = nn.Conv2d(channels, channels, 1)
            self.proj = nn.Conv2d(channels, channels, 1)
        if attention:
            self.QK = nn.Conv2d(channels, 2 * channels, 1)
            self.attn = WindowAttention(heads)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        if not hasattr(self, "V"):
            return self.conv(x)
        value = self.V(x)
        mixed = self.conv(value)
        if hasattr(self, "attn"):
            mixed = mixed + self._attended(torch.cat([self.QK(x), value], dim=1))
        return self.proj(mixed)

    def _attended(self, qkv: Tensor) -> Tensor:  # [B, 3C, H, W] -> [B, C, H, W]
        height, width = qkv.shape[2:]
        start = self.shift
        bottom, right = (-(height + start) % WINDOW, -(width + start) % WINDOW)
        padded = F.pad(qkv, (start, right, start, bottom), mode="reflect").permute(0, 2, 3, 1)
        attended = self.attn(windows_of(padded, WINDOW))
        y = from_windows(attended, (*padded.shape[:3], attended.shape[3]), WINDOW).permute(0, 3, 1, 2)
        return y[:, :, start : start + height, start : start + width]


class DehazeBlock(nn.Module):
    """Mixer, then feed-forward. Only a block with attention has a norm, and its statistics come back after it."""

    def __init__(self, channels: int, heads: int, hidden: int, shifted: bool, attention: bool, kind: ConvKind) -> None:
        super().__init__()
        if attention:
            self.norm1 = RescaledNorm(channels)
        self.attn = Mixer(channels, heads, shifted, attention, kind)
        self.mlp = Mlp(channels, hidden)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        if hasattr(self, "norm1"):
            normed, gain, shift = self.norm1(x)
            x = x + (self.attn(normed) * gain + shift)
        else:
            x = x + self.attn(x)
        return x + self.mlp(x)


class SelectiveFusion(nn.Module):
    """SK: two maps summed, each channel with weights that add up to 1 and depend on both maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 8, 4)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, 2 * channels, 1, bias=False)
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # [B, C, H, W] twice
        scores = self.mlp((first + second).mean((2, 3), keepdim=True)).unflatten(1, (2, -1))
        weights = scores.softmax(1)
        return weights[:, 0] * first + weights[:, 1] * second


def initialise(network: nn.Module, depth: int) -> None:
    """Draw the blocks' weights as the authors do: truncated normals that shrink with the total depth, biases 0."""
    gain = (8 * depth) ** -0.25
    for name, module in network.named_modules():
        if not isinstance(module, nn.Conv2d) or ".blocks." not in name or ".meta" in name:
            continue
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(module.weight)
        std = math.sqrt(2 / (fan_in + fan_out))
        nn.init.trunc_normal_(module.weight, std=std if name.endswith("QK") else gain * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
