"""NAFNet. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import ChannelNorm, PointwiseConv2d, pad_to

# TLC (Chu et al., ECCV 2022): the pooling window is 1.5 training patches wide.
WINDOW_PER_PATCH = 1.5


def _gate(x: Tensor) -> Tensor:  # [B, 2C, H, W] -> [B, C, H, W]
    first, second = x.chunk(2, dim=1)
    return first * second


class LocalPool(nn.Module):
    """Mean over a sliding window, its border values repeated outwards; the global mean if the window covers the map."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, H, W] or [B, C, 1, 1]
        height, width = x.shape[-2:]
        if self.window >= height and self.window >= width:
            return x.mean((2, 3), keepdim=True)
        pooled = self._sliding_mean(self._sliding_mean(x, 2), 3)
        bottom, right = height - pooled.shape[2], width - pooled.shape[3]
        return F.pad(pooled, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2), mode="replicate")

    def _sliding_mean(self, x: Tensor, dim: int) -> Tensor:
        # Differences of running sums cost the same for any window. One axis at a time keeps the sums small.
        window = min(self.window, x.shape[dim])
        sums = F.pad(x.cumsum(dim), (0, 0, 1, 0) if dim == 2 else (1, 0, 0, 0))
        count = x.shape[dim] - window + 1
        return (sums.narrow(dim, window, count) - sums.narrow(dim, 0, count)) / window


class Block(nn.Module):
    """Two residual halves, each scaled by a vector that starts at zero, so that a new block is the identity."""

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.conv1 = PointwiseConv2d(channels, 2 * channels)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.conv3 = PointwiseConv2d(channels, channels)
        pool = nn.AdaptiveAvgPool2d(1) if window is None else LocalPool(window)
        self.sca = nn.Sequential(pool, PointwiseConv2d(channels, channels))
        self.conv4 = PointwiseConv2d(channels, 2 * channels)
        self.conv5 = PointwiseConv2d(channels, channels)
        self.norm1 = ChannelNorm(channels, eps=1e-6)
        self.norm2 = ChannelNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        h = _gate(self.conv2(self.conv1(self.norm1(x))))
        y = x + self.conv3(h * self.sca(h)) * self.beta
        return y + self.conv5(_gate(self.conv4(self.norm2(y)))) * self.gamma


class NAFNet(nn.Module):
    """Simple Baselines for Image Restoration (Chen, Chu, Zhang, Sun, ECCV 2022, arXiv 2204.04676).

    A U-shape with additive skips that learns the residual of its input. Any H and W: zeros are added right and bottom
    up to a multiple of 2^levels and cropped after. `local_training_size` replaces every global average pool by a
    window of 1.5 training patches (TLC, arXiv 2112.04491, the authors' NAFNetLocal with the same keys); `None` keeps
    the global pools. On patches of that size or smaller, both are the same network.

    Departure: the norm is F.layer_norm on the NHWC view. It agrees with the authors' own Function to 2.4e-7.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "middle_blks"
    unused: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        width: int = 32,
        encoder: Sequence[int] = (1, 1, 1, 28),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1, 1),
        local_training_size: int | None = None,
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder):
            raise ValueError(f"encoder has {len(encoder)} levels and decoder {len(decoder)}: give both the same number")
        self.multiple = 2 ** len(encoder)
        window = None if local_training_size is None else int(WINDOW_PER_PATCH * local_training_size)

        def blocks(count: int, level: int) -> nn.Sequential:
            local = None if window is None else max(1, window >> level)
            return nn.Sequential(*(Block(width << level, local) for _ in range(count)))

        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        levels = range(len(encoder))
        upwards = levels[::-1]
        self.encoders = nn.ModuleList(blocks(count, level) for count, level in zip(encoder, levels, strict=True))
        self.decoders = nn.ModuleList(blocks(count, level) for count, level in zip(decoder, upwards, strict=True))
        self.middle_blks = blocks(middle, len(encoder))
        self.ups = nn.ModuleList(
            nn.Sequential(PointwiseConv2d(2 * width << level, 4 * width << level, bias=False), nn.PixelShuffle(2))
            for level in upwards
        )
        self.downs = nn.ModuleList(nn.Conv2d(width << level, 2 * width << level, 2, stride=2) for level in levels)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        padded = pad_to(x, self.multiple, "constant")
        h = self.intro(padded)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(h))
            h = down(skips[-1])
        h = self.middle_blks(h)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            h = decoder(up(h) + skip)
        return (self.ending(h) + padded)[:, :, :height, :width]
