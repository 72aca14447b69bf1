"""Restormer. Shapes: B images, C channels of a level, H x W pixels of a level, n heads of c = C / n channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import ChannelNorm, pad_to
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


class PatchEmbed(nn.Module):
    """The first convolution under the authors' name, `proj`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, 3, H, W] -> [B, C, H, W]
        return self.proj(x)


class Downsample(nn.Module):
    """Halve the resolution: [B, C, H, W] -> [B, 2C, H/2, W/2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Upsample(nn.Module):
    """Double the resolution: [B, C, H, W] -> [B, C/2, 2H, 2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def transformer_level(channels: int, count: int, heads: int, *, expansion: float, norm: NormKind) -> nn.Sequential:
    """Return the blocks of one level, in sequence."""
    return nn.Sequential(*(TransformerBlock(channels, heads, expansion, norm) for _ in range(count)))


def check_four_levels(blocks: Sequence[int], heads: Sequence[int]) -> None:
    """Raise ValueError unless both have one number per level, of four levels."""
    if len(blocks) != 4 or len(heads) != 4:
        raise ValueError(f"blocks and heads have {len(blocks)} and {len(heads)} numbers: give four each, one per level")


class Restormer(nn.Module):
    """Restormer: Efficient Transformer for High-Resolution Image Restoration (Zamir et al., CVPR 2022, 2111.09881).

    Four levels of channel attention with concatenated skips that learn the residual of the input. Any H and W:
    reflected right and bottom up to a multiple of 8 (the border is repeated if the image is too small to reflect)
    and cropped after. `norm: BiasFree` is the setting of all denoising checkpoints.

    Departure: no dual-pixel input (six channels in, `skip_conv`).
    """

    couples_samples = False
    latent_module: ClassVar[str] = "latent"
    unused: tuple[str, ...] = ()

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
        level = partial(transformer_level, expansion=expansion, norm=norm)
        self.patch_embed = PatchEmbed(width)
        self.encoder_level1 = level(width, blocks[0], heads[0])
        self.down1_2 = Downsample(width)
        self.encoder_level2 = level(2 * width, blocks[1], heads[1])
        self.down2_3 = Downsample(2 * width)
        self.encoder_level3 = level(4 * width, blocks[2], heads[2])
        self.down3_4 = Downsample(4 * width)
        self.latent = level(8 * width, blocks[3], heads[3])
        self.up4_3 = Upsample(8 * width)
        self.reduce_chan_level3 = nn.Conv2d(8 * width, 4 * width, 1, bias=False)
        self.decoder_level3 = level(4 * width, blocks[2], heads[2])
        self.up3_2 = Upsample(4 * width)
        self.reduce_chan_level2 = nn.Conv2d(4 * width, 2 * width, 1, bias=False)
        self.decoder_level2 = level(2 * width, blocks[1], heads[1])
        self.up2_1 = Upsample(2 * width)
        # The last level has no reducing convolution and keeps the 2C channels of its concatenation.
        self.decoder_level1 = level(2 * width, blocks[0], heads[0])
        self.refinement = level(2 * width, refinement_blocks, heads[0])
        self.output = nn.Conv2d(2 * width, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect")
        f1 = self.encoder_level1(self.patch_embed(padded))
        f2 = self.encoder_level2(self.down1_2(f1))
        f3 = self.encoder_level3(self.down2_3(f2))
        h = self.latent(self.down3_4(f3))
        h = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(h), f3], dim=1)))
        h = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(h), f2], dim=1)))
        h = self.decoder_level1(torch.cat([self.up2_1(h), f1], dim=1))
        return (self.output(self.refinement(h)) + padded)[:, :, :height, :width]
