"""CAPTNet. Shapes: B images, C channels of a level, H x W pixels, n heads of c = C / n channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import ChannelNorm, pad_to
from cmtl_ir.backbones._transposed_attention import attend_channels, depthwise
from cmtl_ir.backbones.nafnet import Block

LEVELS = 4
ENCODER_HEADS = (4, 8)  # of levels 3 and 4; the two levels above them are plain NAFNet blocks
MIDDLE_HEADS = 16
DECODER_HEADS = (4, 8)  # of levels 4 and 3


class PromptAttention(nn.Module):
    """Channel attention; in the decoder one learned prompt is added to queries, keys and values."""

    def __init__(self, channels: int, heads: int, prompted: bool) -> None:
        super().__init__()
        self.prompted = prompted
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.prompt = nn.Parameter(torch.ones(heads, channels // heads, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.qkv_dwconv = depthwise(3 * channels, 3, bias=True)
        self.project_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        query, key, value = self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        if self.prompted:
            prompt = self.prompt.reshape(-1, 1, 1)  # [C, 1, 1]
            query, key, value = query + prompt, key + prompt, value + prompt
        return self.project_out(attend_channels(query, key, value, self.temperature))


class FeedForward(nn.Module):
    """One half of the hidden channels times the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(channels, 4 * channels, 1)
        self.dwconv = depthwise(4 * channels, 3, bias=True)
        self.project_out = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        first, second = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(first * second)


class PromptBlock(nn.Module):
    """Attention, then feed-forward, each on the normalised input and added to it."""

    def __init__(self, channels: int, heads: int, prompted: bool = False) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels, eps=1e-6)
        self.attn = PromptAttention(channels, heads, prompted)
        self.norm2 = ChannelNorm(channels, eps=1e-6)
        self.ffn = FeedForward(channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class CAPTNet(nn.Module):
    """CAPTNet: Prompt-based Ingredient-Oriented All-in-One Image Restoration (Gao et al., TCSVT 2024, 2309.03063).

    A U-shape with additive skips: NAFNet blocks on the two finest levels, channel attention below, with learned
    prompts in the decoder. `task` is not read. Any H and W: zeros are added right and bottom up to a multiple of 16.

    Departures: the output is cropped to the input's size (`restored` returns the padded one, as the authors' class
    does), and the test-time variant with local windows is not included. The authors' weights are for non-commercial
    use.
    """

    couples_samples = False
    unused: tuple[str, ...] = ("encoders.*.attn.prompt", "middle_blks.*.attn.prompt")
    latent_module: ClassVar[str] = "middle_blks"

    def __init__(
        self,
        *,
        width: int = 32,
        encoder: Sequence[int] = (1, 1, 1, 28),
        middle: int = 1,
        decoder: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        """`encoder` counts the blocks per level from the finest, `decoder` from the deepest."""
        super().__init__()
        if len(encoder) != LEVELS or len(decoder) != LEVELS:
            raise ValueError(f"encoder and decoder need {LEVELS} numbers each, not {len(encoder)} and {len(decoder)}")

        def blocks(count: int, level: int, heads: int | None, prompted: bool = False) -> nn.Sequential:
            channels = width << level
            if heads is None:
                return nn.Sequential(*(Block(channels, window=None) for _ in range(count)))
            return nn.Sequential(*(PromptBlock(channels, heads, prompted) for _ in range(count)))

        levels, upwards = range(LEVELS), range(LEVELS)[::-1]
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        heads_down, heads_up = (None, None, *ENCODER_HEADS), (*DECODER_HEADS, None, None)
        self.encoders = nn.ModuleList(map(blocks, encoder, levels, heads_down))
        self.decoders = nn.ModuleList(map(blocks, decoder, upwards, heads_up, [True] * LEVELS))
        self.middle_blks = blocks(middle, LEVELS, MIDDLE_HEADS)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * width << level, 4 * width << level, 1, bias=False), nn.PixelShuffle(2))
            for level in upwards
        )
        self.downs = nn.ModuleList(nn.Conv2d(width << level, 2 * width << level, 2, stride=2) for level in levels)
        self.middle = blocks(1, 2, None)
        self.middle_ups = nn.Sequential(nn.Conv2d(8 * width, 16 * width, 1, bias=False), nn.PixelShuffle(2))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        return self.restored(x)[:, :, : x.shape[2], : x.shape[3]]

    def restored(self, x: Tensor) -> Tensor:
        """Restore x [B, 3, H, W] with its padding: both sides are multiples of 16."""
        padded = pad_to(x, 1 << LEVELS, "constant")
        h = self.intro(padded)
        skips: list[Tensor] = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(h))
            h = down(skips[-1])
        skips[2] = self.middle(skips[2] + self.middle_ups(skips[3]))
        h = self.middle_blks(h)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            h = decoder(up(h) + skip)
        return self.ending(h) + padded
