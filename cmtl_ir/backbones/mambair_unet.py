"""MambaIRUNet: the levels of Restormer with the blocks of MambaIR. Shapes: B images, C channels, H x W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import image_keys, pad_to
from cmtl_ir.backbones._scan import ScanKind
from cmtl_ir.backbones._state_space import StateSpaceBlock, check_width
from cmtl_ir.backbones.restormer import Downsample, PatchEmbed, Upsample


class Level(nn.Sequential):
    """Blocks of one level, in sequence: [B, C, H, W] -> [B, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        h, keys = x.permute(0, 2, 3, 1), image_keys(x)
        for block in self:
            h = block(h, keys)
        return h.permute(0, 3, 1, 2)


def _level(channels: int, count: int, states: int, expansion: float, scan: ScanKind) -> Level:
    return Level(*(StateSpaceBlock(channels, states, expansion, scan=scan) for _ in range(count)))


class MambaIRUNet(nn.Module):
    """MambaIR: A Simple Baseline for Image Restoration with State-Space Model (Guo et al., ECCV 2024).

    arXiv 2402.15648. The U-shaped variant for real denoising: the four levels of Restormer with selective scans in
    place of attention. The defaults are the published network of 26.8 million parameters. `expansion` 2 is the default
    of the authors' class. Any H and W: reflected right and bottom up to a multiple of 8 (the border repeated where the
    image is too small to reflect) and cropped after. `scan: loop` is the slow reference of the selective scan. The
    authors' weights are under Apache-2.0.

    Departure: the scan is written in PyTorch, where the authors call the CUDA kernel of mamba_ssm. It stays in float32
    under autocast, as theirs does. Raises ValueError for a width below 30 or levels that are not four.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "latent"

    def __init__(
        self,
        *,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement_blocks: int = 4,
        states: int = 16,
        expansion: float = 1.5,
        scan: ScanKind = "blocked",
    ) -> None:
        super().__init__()
        check_width(width)
        if len(blocks) != 4:
            raise ValueError(f"blocks has {len(blocks)} numbers: give four, one per level")
        level = partial(_level, states=states, expansion=expansion, scan=scan)
        self.patch_embed = PatchEmbed(width)
        self.encoder_level1 = level(width, blocks[0])
        self.down1_2 = Downsample(width)
        self.encoder_level2 = level(2 * width, blocks[1])
        self.down2_3 = Downsample(2 * width)
        self.encoder_level3 = level(4 * width, blocks[2])
        self.down3_4 = Downsample(4 * width)
        self.latent = level(8 * width, blocks[3])
        self.up4_3 = Upsample(8 * width)
        self.reduce_chan_level3 = nn.Conv2d(8 * width, 4 * width, 1, bias=False)
        self.decoder_level3 = level(4 * width, blocks[2])
        self.up3_2 = Upsample(4 * width)
        self.reduce_chan_level2 = nn.Conv2d(4 * width, 2 * width, 1, bias=False)
        self.decoder_level2 = level(2 * width, blocks[1])
        self.up2_1 = Upsample(2 * width)
        # The last level keeps the 2C channels of its concatenation: it has no reducing convolution.
        self.decoder_level1 = level(2 * width, blocks[0])
        self.refinement = level(2 * width, refinement_blocks)
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
