"""Restormer. Shapes: B images, C channels of a level, H x W pixels of a level, n heads of c = C / n channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import FourLevels, check_four_levels
from cmtl_ir.backbones._layers import ChannelNorm
from cmtl_ir.backbones._transposed_attention import attend_channels

NormKind = Literal["WithBias", "BiasFree"]


class BiasFreeNorm(nn.Module):
    """x / sqrt(variance + eps) * weight over channels. The mean is not subtracted from the numerator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        pixels = x.permute(0, 2, 3, 1)
        deviation = torch.sqrt(pixels.var(-1, unbiased=False, keepdim=True) + 1e-5)
        return (pixels / deviation * self.weight).permute(0, 3, 1, 2)


class Norm(nn.Module):
    """The norm over channels under the authors' name, `body`."""

    def __init__(self, channels: int, kind: NormKind) -> None:
        super().__init__()
        self.body = ChannelNorm(channels, eps=1e-5) if kind == "WithBias" else BiasFreeNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class TransposedAttention(nn.Module):
    """MDTA: attention between channels instead of pixels, at a cost linear in H x W."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        return self.project_out(attend_channels(query, key, value, self.temperature))


class GatedFeedForward(nn.Module):
    """GDFN: one half of the hidden channels gates the other."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        first, second = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(F.gelu(first) * second)


class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each computed on the normalised input and added to the input."""

    def __init__(self, channels: int, heads: int, expansion: float, norm: NormKind) -> None:
        super().__init__()
        self.norm1 = Norm(channels, norm)
        self.attn = TransposedAttention(channels, heads)
        self.norm2 = Norm(channels, norm)
        self.ffn = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


def transformer_level(channels: int, count: int, heads: int, *, expansion: float, norm: NormKind) -> nn.Sequential:
    """Return the blocks of one level, in sequence."""
    return nn.Sequential(*(TransformerBlock(channels, heads, expansion, norm) for _ in range(count)))


class Restormer(FourLevels):
    """Restormer: Efficient Transformer for High-Resolution Image Restoration (Zamir et al., CVPR 2022, 2111.09881).

    Four levels of channel attention with concatenated skips that learn the residual of the input. Any H and W:
    reflected right and bottom up to a multiple of 8 (the border is repeated if the image is too small to reflect)
    and cropped after. `norm: BiasFree` is the setting of all denoising checkpoints.

    Departure: no dual-pixel input (six channels in, `skip_conv`).
    """

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        norm: NormKind = "WithBias",
    ) -> None:
        super().__init__()
        check_four_levels(blocks, heads)
        counts, all_heads = (*blocks, refinement_blocks), (*heads, heads[0])

        def level(channels: int, number: int) -> nn.Sequential:
            return transformer_level(channels, counts[number], all_heads[number], expansion=expansion, norm=norm)

        self.make_encoder(width, level)
        self.latent = level(8 * width, 3)
        self.make_decoder(width, level)
