"""HAIR. Shapes: B images, C channels of a level, H x W pixels, N rows of a kernel box, S numbers per row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import FourLevels, check_four_levels
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._transposed_attention import attend_channels
from cmtl_ir.backbones.restormer import Norm, transformer_level

GROUPS = 24

# --------------------------------------------------------------------------- what the image is: one vector per sample


def _conv(channels: int, outputs: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, size, padding=size // 2)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """x + conv swish norm conv swish norm x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), _conv(channels, channels)
        self.norm2, self.conv2 = _norm(channels), _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    """Attention between all pixels, one head, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (_conv(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        normed = self.norm(x)
        query, key, value = (one(normed).flatten(2) for one in (self.q, self.k, self.v))  # [B, C, HW]
        attention = (query.mT @ key / math.sqrt(query.shape[1])).softmax(-1)  # [B, queries, keys]
        return x + self.proj_out((value @ attention.mT).reshape(x.shape))


class Halve(nn.Module):
    """A strided convolution after zeros right and bottom."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class FeatureLevel(nn.Module):
    """Three residual blocks and, except at the last level, a step to half the size."""

    def __init__(self, channels: int, last: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(*(ResidualBlock(channels) for _ in range(3)))
        self.downsample = nn.Identity() if last else Halve(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.block(x))


class Middle(nn.Module):
    """Attention between two residual blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels)
        self.attn_1 = PixelAttention(channels)
        self.block_2 = ResidualBlock(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class FeatureNet(nn.Module):
    """The image's global vector: deepest encoder features [B, 8d, H, W] -> [B, 2d]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = 3 * width // 2
        self.conv_in = _conv(8 * width, channels)
        self.down = nn.Sequential(*(FeatureLevel(channels, last=number == 2) for number in range(3)))
        self.mid = Middle(channels)
        self.norm_out = _norm(channels)
        self.conv_out = _conv(channels, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.mid(self.down(self.conv_in(x)))
        return self.conv_out(F.silu(self.norm_out(h))).mean((2, 3))


# ------------------------------------------------------------------------------------- blocks with generated weights


class Kernel(NamedTuple):
    """One convolution of a generated block: `size` 1 mixes channels, `size` 3 is depthwise."""

    outputs: int
    inputs: int
    size: int

    def numbers(self) -> int:
        return self.outputs * self.inputs * self.size**2


def kernels_of(channels: int, expansion: float) -> list[Kernel]:
    """The convolutions of a Restormer block, in the order of a kernel box's columns."""
    hidden = int(channels * expansion)
    return [
        Kernel(3 * channels, channels, 1),
        Kernel(3 * channels, 1, 3),
        Kernel(channels, channels, 1),
        Kernel(2 * hidden, channels, 1),
        Kernel(2 * hidden, 1, 3),
        Kernel(channels, hidden, 1),
    ]


def own_convolution(x: Tensor, weights: Tensor, kernel: Kernel) -> Tensor:
    """Convolve each sample with its own weights: [B, C, H, W], [B, numbers] -> [B, outputs, H, W]."""
    batch, _, height, width = x.shape
    if kernel.size == 1:
        mixed = weights.reshape(batch, kernel.outputs, kernel.inputs) @ x.flatten(2)
        return mixed.reshape(batch, kernel.outputs, height, width)
    maps = x.reshape(1, batch * kernel.outputs, height, width)
    filters = weights.reshape(batch * kernel.outputs, 1, kernel.size, kernel.size)
    y = F.conv2d(maps, filters, padding=kernel.size // 2, groups=len(filters))
    return y.reshape(batch, kernel.outputs, height, width)


class Temperature(nn.Module):
    """The only own parameter of a generated attention under the authors' name, `attn`."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))


class GeneratedBlock(nn.Module):
    """A Restormer block whose convolutions are given per sample."""

    def __init__(self, channels: int, heads: int, kernels: Sequence[Kernel]) -> None:
        super().__init__()
        self.kernels = kernels
        self.norm1 = Norm(channels, "WithBias")
        self.attn = Temperature(heads)
        self.norm2 = Norm(channels, "WithBias")

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:  # [B, C, H, W], [B, S] -> [B, C, H, W]
        parts = weights.split([kernel.numbers() for kernel in self.kernels], dim=1)
        convolve = [partial(own_convolution, weights=w, kernel=k) for w, k in zip(parts, self.kernels, strict=True)]
        query, key, value = convolve[1](convolve[0](self.norm1(x))).chunk(3, dim=1)
        x = x + convolve[2](attend_channels(query, key, value, self.attn.temperature))
        first, second = convolve[4](convolve[3](self.norm2(x))).chunk(2, dim=1)
        return x + convolve[5](F.gelu(first) * second)


class Extract(nn.Module):
    """How much of each row of the kernel box a block takes: [B, 2d] -> [B, N]."""

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        sizes = [2 * width, width, width // 2, width // 4]
        layers: list[nn.Module] = []
        for size, smaller in pairwise(sizes):
            layers += [nn.Linear(size, smaller), nn.GELU()]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], rows))

    def forward(self, features: Tensor) -> Tensor:
        return self.net(features).softmax(1)


class HyperLevel(nn.Module):
    """Blocks that mix their weights from the rows of one kernel box."""

    def __init__(self, channels: int, heads: int, count: int, *, rows: int, width: int, expansion: float) -> None:
        super().__init__()
        kernels = kernels_of(channels, expansion)
        # Every row starts as the weights of ordinary convolutions.
        fresh = [
            torch.empty(rows, kernel.numbers()).uniform_(-1, 1) / math.sqrt(kernel.inputs * kernel.size**2)
            for kernel in kernels
        ]
        self.kernel_box = nn.Parameter(torch.cat(fresh, dim=1))  # [N, S]
        self.blocks = nn.ModuleList(GeneratedBlock(channels, heads, kernels) for _ in range(count))
        self.extracts = nn.ModuleList(Extract(width, rows) for _ in range(count))

    def forward(self, x: Tensor, features: Tensor) -> Tensor:  # [B, C, H, W], [B, 2d] -> [B, C, H, W]
        for block, extract in zip(self.blocks, self.extracts, strict=True):
            x = block(x, extract(features) @ self.kernel_box)
        return x


class HAIR(FourLevels):
    """HAIR: Hypernetworks-based All-in-One Image Restoration (Cao et al., 2024, arXiv 2408.08091).

    Restormer whose encoder is ordinary; every block of the latent level, the decoder and the refinement takes its
    convolutions from the image: a softmax over the rows of a learned kernel box, read off a global feature vector.
    `task` is not read. Any H and W: reflected right and bottom up to a multiple of 8 and at least 32 (64 at width
    16; the border is repeated where the image is too small to reflect) and cropped after.

    Departure: `width` may be any multiple of 16 (the authors' class builds at 48 only). The authors publish no
    licence.
    """

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
    ) -> None:
        super().__init__()
        check_four_levels(blocks, heads)
        if width % 16:
            raise ValueError(f"width {width} is not a multiple of 16: the feature net has {GROUPS} groups of channels")
        # The feature net halves an eighth of the image twice; a group of one channel needs two pixels or more.
        self.smallest = 64 if 3 * width // 2 == GROUPS else 32
        counts, all_heads = (*blocks, refinement_blocks), (*heads, heads[0])

        def level(channels: int, number: int) -> nn.Module:
            return transformer_level(channels, counts[number], heads[number], expansion=expansion, norm="WithBias")

        def hyper(channels: int, number: int) -> HyperLevel:
            rows, head = max(4, counts[number]) + (number != 2), all_heads[number]
            return HyperLevel(channels, head, counts[number], rows=rows, width=width, expansion=expansion)

        self.make_encoder(width, level)
        self.feature = FeatureNet(width)
        self.latent = hyper(8 * width, 3)
        self.reduce_latent = _conv(8 * width, 4 * width)
        self.make_decoder(width, hyper, deepest=4)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        padded = pad_to(x, 8, "reflect", smallest=self.smallest)
        *skips, deepest = self.encoded(padded)
        features = self.feature(deepest)  # [B, 2d]
        h = self.reduce_latent(self.latent(deepest, features))
        return self.decoded(h, skips, padded, features)[:, :, : x.shape[2], : x.shape[3]]
