"""MPRNet. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._cab import AttentionBlock, conv, shallow
from cmtl_ir.backbones._layers import pad_to

Levels = list[Tensor]
"""Features of the levels, finest first: [B, C_i, H / 2^i, W / 2^i]."""


def split(x: Tensor, rows: int, columns: int) -> Tensor:
    """[B, C, H, W] -> [B * rows * columns, C, H / rows, W / columns]: equal tiles, image after image."""
    batch, channels, height, width = x.shape
    tiles = x.reshape(batch, channels, rows, height // rows, columns, width // columns)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // rows, width // columns)


def joined(x: Tensor, rows: int, columns: int) -> Tensor:
    """[B * rows * columns, C, H, W] -> [B, C, H * rows, W * columns]: the inverse of `split`."""
    channels, height, width = x.shape[1:]
    tiles = x.reshape(-1, rows, columns, channels, height, width)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height * rows, width * columns)


class Down(nn.Module):
    """[B, C, H, W] -> [B, D, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Upsample(scale_factor=0.5, mode="bilinear"), conv(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.down(x)


class Up(nn.Module):
    """[B, C, H, W] -> [B, D, 2H, 2W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), conv(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x)


def pair(channels: int, activation: nn.PReLU) -> nn.Sequential:
    """Two attention blocks in sequence."""
    return nn.Sequential(AttentionBlock(channels, activation), AttentionBlock(channels, activation))


class Encoder(nn.Module):
    """Three levels of attention blocks; with `fused`, each takes the features of the previous stage in addition."""

    def __init__(self, widths: Sequence[int], activation: nn.PReLU, fused: bool) -> None:
        super().__init__()
        self.encoder_level1, self.encoder_level2, self.encoder_level3 = (pair(width, activation) for width in widths)
        self.down12 = Down(widths[0], widths[1])
        self.down23 = Down(widths[1], widths[2])
        if fused:
            self.csff_enc1, self.csff_enc2, self.csff_enc3 = (conv(width, width, 1) for width in widths)
            self.csff_dec1, self.csff_dec2, self.csff_dec3 = (conv(width, width, 1) for width in widths)

    def forward(self, x: Tensor, encoded: Levels | None = None, decoded: Levels | None = None) -> Levels:
        """[B, C, H, W] -> levels. `encoded` and `decoded` are the previous stage's, `None` in the first stage."""
        e1 = self.encoder_level1(x)
        if encoded and decoded:
            e1 = e1 + self.csff_enc1(encoded[0]) + self.csff_dec1(decoded[0])
        e2 = self.encoder_level2(self.down12(e1))
        if encoded and decoded:
            e2 = e2 + self.csff_enc2(encoded[1]) + self.csff_dec2(decoded[1])
        e3 = self.encoder_level3(self.down23(e2))
        if encoded and decoded:
            e3 = e3 + self.csff_enc3(encoded[2]) + self.csff_dec3(decoded[2])
        return [e1, e2, e3]


class Decoder(nn.Module):
    """Levels -> levels, from the coarsest up, with attention on the skips."""

    def __init__(self, widths: Sequence[int], activation: nn.PReLU) -> None:
        super().__init__()
        self.decoder_level1, self.decoder_level2, self.decoder_level3 = (pair(width, activation) for width in widths)
        self.skip_attn1 = AttentionBlock(widths[0], activation)
        self.skip_attn2 = AttentionBlock(widths[1], activation)
        self.up21 = Up(widths[1], widths[0])
        self.up32 = Up(widths[2], widths[1])

    def forward(self, levels: Levels) -> Levels:
        d3 = self.decoder_level3(levels[2])
        d2 = self.decoder_level2(self.up32(d3) + self.skip_attn2(levels[1]))
        d1 = self.decoder_level1(self.up21(d2) + self.skip_attn1(levels[0]))
        return [d1, d2, d3]


class SupervisedAttention(nn.Module):
    """SAM: features [B, C, H, W] and an image -> features that the stage's restored image gates, and that image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels, 1)
        self.conv2 = conv(channels, 3, 1)
        self.conv3 = conv(3, channels, 1)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        restored = self.conv2(features) + image
        return features + self.conv1(features) * torch.sigmoid(self.conv3(restored)), restored


class OriginalResolutionBlock(nn.Module):
    """ORB: attention blocks and a convolution, added to the input."""

    def __init__(self, channels: int, blocks: int, activation: nn.PReLU) -> None:
        super().__init__()
        attention = (AttentionBlock(channels, activation) for _ in range(blocks))
        self.body = nn.Sequential(*attention, conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return x + self.body(x)


class OriginalResolutionNet(nn.Module):
    """ORSNet: the third stage, which never reduces the resolution and takes every level of the second stage."""

    def __init__(self, widths: Sequence[int], channels: int, blocks: int, activation: nn.PReLU) -> None:
        super().__init__()
        w1, w2, w3 = widths
        block = partial(OriginalResolutionBlock, channels, blocks, activation)
        self.orb1, self.orb2, self.orb3 = block(), block(), block()
        self.up_enc1, self.up_dec1 = Up(w2, w1), Up(w2, w1)
        self.up_enc2 = nn.Sequential(Up(w3, w2), Up(w2, w1))
        self.up_dec2 = nn.Sequential(Up(w3, w2), Up(w2, w1))
        self.conv_enc1, self.conv_enc2, self.conv_enc3 = (conv(w1, channels, 1) for _ in range(3))
        self.conv_dec1, self.conv_dec2, self.conv_dec3 = (conv(w1, channels, 1) for _ in range(3))

    def forward(self, h: Tensor, encoded: Levels, decoded: Levels) -> Tensor:  # [B, C, H, W]
        h = self.orb1(h) + self.conv_enc1(encoded[0]) + self.conv_dec1(decoded[0])
        h = self.orb2(h) + self.conv_enc2(self.up_enc1(encoded[1])) + self.conv_dec2(self.up_dec1(decoded[1]))
        return self.orb3(h) + self.conv_enc3(self.up_enc2(encoded[2])) + self.conv_dec3(self.up_dec2(decoded[2]))


class MPRNet(nn.Module):
    """Multi-Stage Progressive Image Restoration (Zamir et al., CVPR 2021, arXiv 2102.02808).

    The first stage restores the four quarters of the image, the second its two halves, the third the whole. Returns
    the three images [B, 3, H, W], the third stage's first. Any H and W: reflected right and bottom up to a multiple
    of 8 and cropped after. Means over quarters and halves make the result depend on where the image is cut: tiled
    inference gives another result than one pass. `task` is not read.

    Published settings of `width`, `unet_growth`, `original_growth`: 96, 48, 32 (deblurring, the default), 80, 48, 32
    (denoising) and 40, 20, 16 (deraining). The authors' weights are licensed for non-commercial use. All attention
    blocks share one PReLU slope, which their files list once per block.

    Departure: none; written from the paper's equations.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "stage2_decoder.decoder_level3"
    output_weights: ClassVar[tuple[float, ...]] = (1.0, 1.0, 1.0)
    restored_output: ClassVar[Literal["first", "last"]] = "first"

    def __init__(
        self, *, width: int = 96, unet_growth: int = 48, original_growth: int = 32, attention_blocks: int = 8
    ) -> None:
        """Build the three stages.

        width: channels of the finest level, 4 or more.
        unet_growth: channels that each coarser level adds.
        original_growth: channels that the third stage adds to `width`.
        attention_blocks: attention blocks in each of the third stage's three groups.
        """
        super().__init__()
        slope = nn.PReLU()
        widths = [width, width + unet_growth, width + 2 * unet_growth]
        self.shallow_feat1, self.shallow_feat2, self.shallow_feat3 = (shallow(width, slope) for _ in range(3))
        self.stage1_encoder = Encoder(widths, slope, fused=False)
        self.stage1_decoder = Decoder(widths, slope)
        self.stage2_encoder = Encoder(widths, slope, fused=True)
        self.stage2_decoder = Decoder(widths, slope)
        self.stage3_orsnet = OriginalResolutionNet(widths, width + original_growth, attention_blocks, slope)
        self.sam12 = SupervisedAttention(width)
        self.sam23 = SupervisedAttention(width)
        self.concat12 = conv(2 * width, width)
        self.concat23 = conv(2 * width, width + original_growth)
        self.tail = conv(width + original_growth, 3)

    def forward(self, x: Tensor, task: Tensor | None = None) -> list[Tensor]:  # [B, 3, H, W] -> 3 of that shape
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect")
        halves = split(padded, 2, 1)
        quarters = self.stage1_encoder(self.shallow_feat1(split(padded, 2, 2)))
        encoded = [joined(level, 1, 2) for level in quarters]
        decoded = self.stage1_decoder(encoded)
        gated, first = self.sam12(decoded[0], halves)
        h = self.concat12(torch.cat([self.shallow_feat2(halves), gated], dim=1))
        encoded = [joined(level, 2, 1) for level in self.stage2_encoder(h, encoded, decoded)]
        decoded = self.stage2_decoder(encoded)
        gated, second = self.sam23(decoded[0], padded)
        h = self.concat23(torch.cat([self.shallow_feat3(padded), gated], dim=1))
        third = self.tail(self.stage3_orsnet(h, encoded, decoded)) + padded
        return [image[:, :, :height, :width] for image in (third, second, joined(first, 2, 1))]
