"""AnyIR. Shapes: B images, C channels of a level, H x W pixels; each half of the channels has m = C / 2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import FourLevels, check_four_levels
from cmtl_ir.backbones._frozen_statistics import BatchNormNetwork
from cmtl_ir.backbones._transposed_attention import GatedFeedForward, attend_channels, depthwise
from cmtl_ir.backbones.restormer import Norm


def _pointwise(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 1, bias=False)


class GatedConvolutions(nn.Module):
    """Local features: a depthwise branch, scaled by the statistics of its input, and a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.norm = nn.BatchNorm2d(channels)
        expanded = round(8 * channels / 3)
        self.sizes = [channels, channels, expanded - 2 * channels]
        self.W_exp = _pointwise(channels, expanded)
        self.W_depth = depthwise(self.sizes[2], 7, bias=False)
        self.W_gate = _pointwise(channels + self.sizes[2], channels)
        self.W_proj = _pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, m, H, W]
        normed = self.norm(x)
        deviation = (normed.var((2, 3), unbiased=False, keepdim=True) + 1e-6).sqrt()
        scale = self.tau * (normed.mean((2, 3), keepdim=True) + deviation).sigmoid()
        gate, kept, local = self.W_exp(normed).split(self.sizes, dim=1)
        local = self.W_depth(local) * (1 + scale[:, : self.sizes[2]])
        return self.W_proj(gate.sigmoid() * self.W_gate(torch.cat([kept, local], dim=1)) + x)


class SplitAttention(nn.Module):
    """Channel attention on the even channels, gated convolutions on the odd ones, and two ways to fuse them."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        half = channels // 2
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.lam = nn.Parameter(torch.tensor(0.5))
        self.qkv = _pointwise(half, 3 * half)
        self.qkv_dwconv = depthwise(3 * half, 3, bias=False)
        self.gatedcnn = GatedConvolutions(half)
        self.project_out = _pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        query, key, value = self.qkv_dwconv(self.qkv(x[:, ::2])).chunk(3, dim=1)
        attended = attend_channels(query, key, value, self.temperature)
        local = self.gatedcnn(x[:, 1::2])
        crossed = torch.cat([attended + local.sigmoid(), local + attended.sigmoid()], dim=1)
        summed = (attended + local).repeat_interleave(2, dim=1)
        return self.project_out(crossed * self.lam + summed * (1 - self.lam))


class SplitBlock(nn.Module):
    """A Restormer block with split attention."""

    def __init__(self, channels: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1 = Norm(channels, "WithBias")
        self.attn = SplitAttention(channels, heads)
        self.norm2 = Norm(channels, "WithBias")
        self.ffn = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class AnyIR(BatchNormNetwork, FourLevels):
    """Any Image Restoration with Efficient Automatic Degradation Adaptation (Ren et al., 2024, arXiv 2407.13372).

    AnyIR: a small Restormer whose blocks attend with one half of the channels and convolve with the other. `task` is
    not read. Any H and W: reflected right and bottom up to a multiple of 8 and cropped after.

    In training the BatchNorm of every block couples the samples of a batch. `frozen_statistics` keeps the norms at
    their running statistics, so that row gradients exist.

    Departures: the two halves are summed directly (the authors' detour through the Fourier domain is the identity to
    1e-15), and `tau` and `lam` start at 0 and 0.5, since the authors' initial values are not known. The authors
    publish no licence.
    """

    def __init__(
        self,
        *,
        width: int = 28,
        blocks: Sequence[int] = (3, 5, 5, 7),
        refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.0,
        frozen_statistics: bool = False,
    ) -> None:
        super().__init__()
        check_four_levels(blocks, heads)
        counts, all_heads = (*blocks, refinement_blocks), (*heads, heads[0])

        def level(channels: int, number: int) -> nn.Sequential:
            return nn.Sequential(*(SplitBlock(channels, all_heads[number], expansion) for _ in range(counts[number])))

        self.make_encoder(width, level)
        self.latent = level(8 * width, 3)
        self.reduce_dim_level3 = _pointwise(8 * width, 4 * width)
        self.make_decoder(width, level, deepest=4)
        self.freeze_statistics(frozen_statistics)

    def between(self, level: int, h: Tensor, image: Tensor) -> Tensor:
        return self.reduce_dim_level3(h) if level == 4 else h
