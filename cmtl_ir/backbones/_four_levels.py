"""The U-shape of Restormer and its kin. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to

Level = Callable[[int, int], nn.Module]
"""Makes the blocks of (channels, number): levels 0 to 3, and 4 for the refinement."""


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


def check_four_levels(blocks: Sequence[int], heads: Sequence[int]) -> None:
    """Raise ValueError unless both have one number per level, of four levels."""
    if len(blocks) != 4 or len(heads) != 4:
        raise ValueError(f"blocks and heads have {len(blocks)} and {len(heads)} numbers: give four each, one per level")


class FourLevels(nn.Module):
    """Four levels with concatenated skips that learn the residual of the image, under Restormer's names.

    Any H and W: reflected right and bottom up to a multiple of 8 (the border is repeated if the image is too small to
    reflect) and cropped after. A network makes its modules in the order of its published file: `make_encoder`, then
    `make_decoder`, with its own between them or after.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "latent"
    unused: tuple[str, ...] = ()
    latent: nn.Module

    def make_encoder(self, width: int, level: Level) -> None:
        """Make everything up to the latent, whose channels are 8 times `width`."""
        self.patch_embed = PatchEmbed(width)
        self.encoder_level1 = level(width, 0)
        self.down1_2 = Downsample(width)
        self.encoder_level2 = level(2 * width, 1)
        self.down2_3 = Downsample(2 * width)
        self.encoder_level3 = level(4 * width, 2)
        self.down3_4 = Downsample(4 * width)

    def make_decoder(self, width: int, level: Level, deepest: int = 8) -> None:
        """Make everything after the latent, of which `deepest` times `width` channels arrive."""
        self.up4_3 = Upsample(deepest * width)
        self.reduce_chan_level3 = nn.Conv2d((deepest // 2 + 4) * width, 4 * width, 1, bias=False)
        self.decoder_level3 = level(4 * width, 2)
        self.up3_2 = Upsample(4 * width)
        self.reduce_chan_level2 = nn.Conv2d(4 * width, 2 * width, 1, bias=False)
        self.decoder_level2 = level(2 * width, 1)
        self.up2_1 = Upsample(2 * width)
        # The last level has no reducing convolution and keeps the 2C channels of its concatenation.
        self.decoder_level1 = level(2 * width, 0)
        self.refinement = level(2 * width, 4)
        self.output = nn.Conv2d(2 * width, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        padded = pad_to(x, 8, "reflect")
        *skips, deepest = self.encoded(padded)
        return self.decoded(self.latent(deepest), skips, padded)[:, :, : x.shape[2], : x.shape[3]]

    def encoded(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the features of levels 1 to 3, and what enters the latent, [B, C, H, W] each."""
        f1 = self.encoder_level1(self.patch_embed(image))
        f2 = self.encoder_level2(self.down1_2(f1))
        f3 = self.encoder_level3(self.down2_3(f2))
        return f1, f2, f3, self.down3_4(f3)

    def between(self, level: int, h: Tensor, image: Tensor) -> Tensor:
        """Return what goes up from level 4 (the latent), 3 or 2: its features, unless a network changes them."""
        return h

    def decoded(self, h: Tensor, skips: Sequence[Tensor], image: Tensor, *conditions: Tensor) -> Tensor:
        """Return the image plus what the latent and the skips make of it; every level reads the conditions."""
        f1, f2, f3 = skips
        h = torch.cat([self.up4_3(self.between(4, h, image)), f3], dim=1)
        h = self.decoder_level3(self.reduce_chan_level3(h), *conditions)
        h = torch.cat([self.up3_2(self.between(3, h, image)), f2], dim=1)
        h = self.decoder_level2(self.reduce_chan_level2(h), *conditions)
        h = torch.cat([self.up2_1(self.between(2, h, image)), f1], dim=1)
        h = self.refinement(self.decoder_level1(h, *conditions), *conditions)
        return self.output(h) + image
