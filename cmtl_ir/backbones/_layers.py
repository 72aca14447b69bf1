"""Layers and helpers that several networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.base import keyed, pointwise


def pad_to(x: Tensor, multiple: int, mode: str, smallest: int = 0) -> Tensor:  # [B, C, H, W]
    """Pad right and bottom until both sides are multiples of `multiple` and at least `smallest`.

    `mode` is that of F.pad. Reflection needs a side longer than its padding, so very small images repeat their edge.
    """
    height, width = x.shape[-2:]
    bottom = max(-height % multiple, smallest - height)
    right = max(-width % multiple, smallest - width)
    if not bottom and not right:
        return x
    if mode == "reflect" and (bottom >= height or right >= width):
        mode = "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel: [B, C, H, W] -> [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        # On the NHWC view, torch uses its fused kernel and does not copy a channels_last input.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution: [B, C, H, W] -> [B, O, H, W]."""

    def __init__(self, channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() and pointwise.takes(x, self.weight):
            return pointwise.convolve(x, self.weight, self.bias)
        return super().forward(x)


def image_keys(x: Tensor) -> Tensor:  # [B, 3, H, W] -> [B] int64
    """Return a key per image from the bits of its pixels. Equal images have equal keys, in any batch."""
    pixels = x.detach().flatten(1).float().view(torch.int32).long()
    places = torch.arange(pixels.shape[1], device=x.device) * keyed.GOLDEN
    return keyed.mix(pixels + places).sum(1)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, a residual branch is dropped for some samples.

    Which samples are dropped depends on their pixels instead of a generator. So a step repeats bit by bit, resuming
    needs no state, and a sample loses the same branches in any batch.
    """

    def __init__(self, rate: float, place: str) -> None:
        super().__init__()
        self.rate = rate
        self.key = keyed.name_key(place)

    def forward(self, branch: Tensor, keys: Tensor) -> Tensor:  # [B, ...], [B] -> [B, ...]
        if not self.training or self.rate == 0:
            return branch
        kept = keyed.uniform(keyed.mix(keys ^ self.key)) >= self.rate  # [B]
        scale = (kept / (1 - self.rate)).to(branch.dtype)
        return branch * scale.view(-1, *(1 for _ in branch.shape[1:]))


def rising_rates(highest: float, count: int) -> list[float]:
    """Return `count` drop rates, from 0 for the first layer to `highest` for the last."""
    return [highest * number / max(1, count - 1) for number in range(count)]
