"""DyNet. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import Downsample, PatchEmbed, Upsample, check_four_levels
from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones.promptir import LARGE, MEDIUM, REDUCED, SMALL, PromptBlock
from cmtl_ir.backbones.restormer import NormKind, TransformerBlock, transformer_level


def _pointwise(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 1, bias=False)


def _repeated(block: nn.Module, times: int, x: Tensor) -> Tensor:
    for _ in range(times):
        x = block(x)
    return x


class DyNet(nn.Module):
    """DyNet: Dynamic Pre-training for All-in-One Image Restoration (Dudhane et al., 2024, arXiv 2404.02154).

    PromptIR with one transformer block per level, applied `reuse` times with the same weights, and with prompts on
    the skips of levels 2 and 3. `reuse=[4, 6, 6, 8]` is the large and `[2, 3, 3, 4]` the small network; both have the
    same parameters, so one's weights load into the other. `task` is not read. Any H and W: reflected right and bottom
    up to a multiple of 8 and cropped after. The prompts' channels (64, 128, 320) and sizes are the published ones at
    any width.

    Departures: no variant without prompts, no masked pre-training, and any `width` builds (the authors' class: 48
    only). The authors' weights are for non-commercial use.
    """

    couples_samples = False
    latent_module: ClassVar[str] = "latent"
    unused: tuple[str, ...] = ("reduce_noise_channel_?.weight",)

    def __init__(
        self,
        *,
        width: int = 48,
        reuse: Sequence[int] = (4, 6, 6, 8),
        refinement_blocks: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        expansion: float = 2.66,
        norm: NormKind = "WithBias",
    ) -> None:
        super().__init__()
        check_four_levels(reuse, heads)
        self.reuse = tuple(reuse)
        block = partial(TransformerBlock, expansion=expansion, norm=norm)
        self.patch_embed = PatchEmbed(width)
        self.prompt1 = PromptBlock(2 * width, SMALL, 64)
        self.prompt2 = PromptBlock(4 * width, MEDIUM, 32)
        self.prompt3 = PromptBlock(8 * width, LARGE, 16)
        # The authors build these three and never use them.
        self.reduce_noise_channel_1 = _pointwise(width + SMALL, width)
        self.reduce_noise_channel_2 = _pointwise(2 * width + MEDIUM, 2 * width)
        self.reduce_noise_channel_3 = _pointwise(4 * width + REDUCED, 4 * width)
        self.encoder_level1 = block(width, heads[0])
        self.down1_2 = Downsample(width)
        self.encoder_level2 = block(2 * width, heads[1])
        self.down2_3 = Downsample(2 * width)
        self.encoder_level3 = block(4 * width, heads[2])
        self.down3_4 = Downsample(4 * width)
        self.latent = block(8 * width, heads[3])
        self.noise_level3 = block(8 * width + LARGE, heads[2])
        self.reduce_noise_level3 = _pointwise(8 * width + LARGE, 4 * width)
        self.up4_3 = Upsample(4 * width)
        self.noise_level2 = block(4 * width + MEDIUM, heads[2])
        self.reduce_noise_level2 = _pointwise(4 * width + MEDIUM, 4 * width)
        self.reduce_chan_level3 = _pointwise(6 * width, 4 * width)
        self.decoder_level3 = block(4 * width, heads[2])
        self.up3_2 = Upsample(4 * width)
        self.noise_level1 = block(2 * width + SMALL, heads[2])
        self.reduce_noise_level1 = _pointwise(2 * width + SMALL, 2 * width)
        self.reduce_chan_level2 = _pointwise(4 * width, 2 * width)
        self.decoder_level2 = block(2 * width, heads[1])
        self.up2_1 = Upsample(2 * width)
        self.decoder_level1 = block(2 * width, heads[0])
        self.refinement = transformer_level(2 * width, refinement_blocks, heads[0], expansion=expansion, norm=norm)
        self.output = nn.Conv2d(2 * width, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        padded = pad_to(x, 8, "reflect")
        times1, times2, times3, times4 = self.reuse
        f1 = _repeated(self.encoder_level1, times1, self.patch_embed(padded))
        f2 = _repeated(self.encoder_level2, times2, self.down1_2(f1))
        f3 = _repeated(self.encoder_level3, times3, self.down2_3(f2))
        h = _repeated(self.latent, times4, self.down3_4(f3))
        h = self.reduce_noise_level3(self.noise_level3(torch.cat([h, self.prompt3(h)], dim=1)))
        f3 = self.reduce_noise_level2(self.noise_level2(torch.cat([f3, self.prompt2(f3)], dim=1)))
        h = self.reduce_chan_level3(torch.cat([self.up4_3(h), f3], dim=1))
        h = _repeated(self.decoder_level3, times3, h)
        f2 = self.reduce_noise_level1(self.noise_level1(torch.cat([f2, self.prompt1(f2)], dim=1)))
        h = self.reduce_chan_level2(torch.cat([self.up3_2(h), f2], dim=1))
        h = _repeated(self.decoder_level2, times2, h)
        h = _repeated(self.decoder_level1, times1, torch.cat([self.up2_1(h), f1], dim=1))
        return (self.output(self.refinement(h)) + padded)[:, :, :height, :width]
