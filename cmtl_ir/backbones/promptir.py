"""PromptIR. Shapes: B images, C channels of a level, H x W pixels of a level, N prompt components of S x S pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._four_levels import Downsample, FourLevels, PatchEmbed, Upsample, check_four_levels
from cmtl_ir.backbones.restormer import NormKind, TransformerBlock, transformer_level

COMPONENTS = 5
SMALL, MEDIUM, LARGE = 64, 128, 320  # channels of the prompts of level 1, 2, 3
REDUCED = 256
PROMPT_HEADS = 4


def _pointwise(channels: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 1, bias=False)


class PromptBlock(nn.Module):
    """A mixture of learned prompts, weighted depending on the features and resized to their size."""

    def __init__(self, channels: int, prompt_channels: int, size: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, COMPONENTS, prompt_channels, size, size))
        self.linear_layer = nn.Linear(channels, COMPONENTS)
        self.conv3x3 = nn.Conv2d(prompt_channels, prompt_channels, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:  # [B, C, H, W] -> [B, prompt channels, H, W]
        weights = self.linear_layer(features.mean((2, 3))).softmax(1)  # [B, N]
        prompt = (weights[:, :, None, None, None] * self.prompt_param).sum(1)
        return self.conv3x3(F.interpolate(prompt, features.shape[-2:], mode="bilinear"))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PromptBlock:
        # model.to(memory_format=channels_last) also converts five-dimensional parameters, which torch refuses.
        return super()._apply(lambda tensor: fn(tensor[0])[None] if tensor.ndim == 5 else fn(tensor), recurse)


class PromptIR(FourLevels):
    """PromptIR: Prompting for All-in-One Image Restoration (Potlapalli et al., NeurIPS 2023, arXiv 2306.13090).

    A Restormer whose decoder is informed of the degradation by three learned prompts, which are weighted depending on
    the features. `task` is not read. Any H and W: reflected right and bottom up to a multiple of 8 and cropped after.
    The prompts' channels (64, 128, 320) and sizes are the published ones at any width.

    Departure: there is no variant without prompts (the authors' decoder=False), because that is Restormer.
    """

    unused: tuple[str, ...] = ("chnl_reduce?.weight", "reduce_noise_channel_?.weight")

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
        self._make_prompts(width)
        self.encoder_level1 = level(width, blocks[0], heads[0])
        self.down1_2 = Downsample(width)
        self.reduce_noise_channel_2 = _pointwise(2 * width + MEDIUM, 2 * width)
        self.encoder_level2 = level(2 * width, blocks[1], heads[1])
        self.down2_3 = Downsample(2 * width)
        self.reduce_noise_channel_3 = _pointwise(4 * width + REDUCED, 4 * width)
        self.encoder_level3 = level(4 * width, blocks[2], heads[2])
        self.down3_4 = Downsample(4 * width)
        self.latent = level(8 * width, blocks[3], heads[3])
        self._make_decoder(width, blocks, heads, partial(TransformerBlock, expansion=expansion, norm=norm), level)
        self.refinement = level(2 * width, refinement_blocks, heads[0])
        self.output = nn.Conv2d(2 * width, 3, 3, padding=1, bias=False)

    def _make_prompts(self, width: int) -> None:
        self.prompt1 = PromptBlock(2 * width, SMALL, 64)
        self.prompt2 = PromptBlock(4 * width, MEDIUM, 32)
        self.prompt3 = PromptBlock(8 * width, LARGE, 16)
        self.chnl_reduce1 = _pointwise(SMALL, SMALL)
        self.chnl_reduce2 = _pointwise(MEDIUM, MEDIUM)
        self.chnl_reduce3 = _pointwise(LARGE, REDUCED)
        self.reduce_noise_channel_1 = _pointwise(width + SMALL, width)

    def _make_decoder(
        self,
        width: int,
        blocks: Sequence[int],
        heads: Sequence[int],
        block: Callable[..., TransformerBlock],
        level: Callable[..., nn.Sequential],
    ) -> None:
        self.up4_3 = Upsample(4 * width)
        self.reduce_chan_level3 = _pointwise(6 * width, 4 * width)
        self.noise_level3 = block(8 * width + LARGE, PROMPT_HEADS)
        self.reduce_noise_level3 = _pointwise(8 * width + LARGE, 4 * width)
        self.decoder_level3 = level(4 * width, blocks[2], heads[2])
        self.up3_2 = Upsample(4 * width)
        self.reduce_chan_level2 = _pointwise(4 * width, 2 * width)
        self.noise_level2 = block(4 * width + MEDIUM, PROMPT_HEADS)
        self.reduce_noise_level2 = _pointwise(4 * width + MEDIUM, 4 * width)
        self.decoder_level2 = level(2 * width, blocks[1], heads[1])
        self.up2_1 = Upsample(2 * width)
        self.noise_level1 = block(2 * width + SMALL, PROMPT_HEADS)
        self.reduce_noise_level1 = _pointwise(2 * width + SMALL, 2 * width)
        self.decoder_level1 = level(2 * width, blocks[0], heads[0])

    def between(self, level: int, h: Tensor, image: Tensor) -> Tensor:
        prompt, noise, reduce = (
            self.get_submodule(f"{name}{level - 1}") for name in ("prompt", "noise_level", "reduce_noise_level")
        )
        return reduce(noise(torch.cat([h, prompt(h)], dim=1)))
