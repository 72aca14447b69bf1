"""AnyIR. Shapes: B images, C channels of a level, H x W pixels; each half of the channels has m = C / 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._frozen_statistics import BatchNormNetwork
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones._transposed_attention import GatedFeedForward, attend_channels, depthwise
from cmtl_ir.backbones.restormer import Downsample, Norm, PatchEmbed, Upsample, check_four_levels


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


class AnyIR(BatchNormNetwork):
    """Any Image Restoration with Efficient Automatic Degradation Adaptation (Ren et al., 2024, arXiv 2407.13372).

    AnyIR: a small Restormer whose blocks attend with one half of the channels and convolve with the other. `task` is
    not read. Any H and W: reflected right and bottom up to a multiple of 8 and cropped after.

    In training the BatchNorm of every block couples the samples of a batch. `frozen_statistics` keeps the norms at
    their running statistics, so that row gradients exist.

    Departures: the two halves are summed directly (the authors' detour through the Fourier domain is the identity to
    1e-15), and `tau` and `lam` start at 0 and 0.5, since the authors' initial values are not known. The authors
    publish no licence.
    """

    latent_module: ClassVar[str] = "latent"
    unused: tuple[str, ...] = ()

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

        def level(channels: int, count: int, head: int) -> nn.Sequential:
            return nn.Sequential(*(SplitBlock(channels, head, expansion) for _ in range(count)))

        self.patch_embed = PatchEmbed(width)
        self.encoder_level1 = level(width, blocks[0], heads[0])
        self.down1_2 = Downsample(width)
        self.encoder_level2 = level(2 * width, blocks[1], heads[1])
        self.down2_3 = Downsample(2 * width)
        self.encoder_level3 = level(4 * width, blocks[2], heads[2])
        self.down3_4 = Downsample(4 * width)
        self.latent = level(8 * width, blocks[3], heads[3])
        self.reduce_dim_level3 = _pointwise(8 * width, 4 * width)
        self.up4_3 = Upsample(4 * width)
        self.reduce_chan_level3 = _pointwise(6 * width, 4 * width)
        self.decoder_level3 = level(4 * width, blocks[2], heads[2])
        self.up3_2 = Upsample(4 * width)
        self.reduce_chan_level2 = _pointwise(4 * width, 2 * width)
        self.decoder_level2 = level(2 * width, blocks[1], heads[1])
        self.up2_1 = Upsample(2 * width)
        self.decoder_level1 = level(2 * width, blocks[0], heads[0])
        self.refinement = level(2 * width, refinement_blocks, heads[0])
        self.output = nn.Conv2d(2 * width, 3, 3, padding=1, bias=False)
        self.freeze_statistics(frozen_statistics)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect")
        f1 = self.encoder_level1(self.patch_embed(padded))
        f2 = self.encoder_level2(self.down1_2(f1))
        f3 = self.encoder_level3(self.down2_3(f2))
        h = self.up4_3(self.reduce_dim_level3(self.latent(self.down3_4(f3))))
        h = self.decoder_level3(self.reduce_chan_level3(torch.cat([h, f3], dim=1)))
        h = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(h), f2], dim=1)))
        h = self.decoder_level1(torch.cat([self.up2_1(h), f1], dim=1))
        return (self.output(self.refinement(h)) + padded)[:, :, :height, :width]
