"""DehazeFormer. Shapes: B images, C channels of a level, H x W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from cmtl_ir.backbones._dehaze_blocks import ConvKind, DehazeBlock, SelectiveFusion, initialise, reflected_conv
from cmtl_ir.backbones._layers import pad_to

SMALLEST = 28
"""Smallest padded side: the coarsest map needs 7 pixels to be reflected into whole windows."""


class Stage(nn.Module):
    """Blocks of one level, in sequence; the last ones have attention and every other one shifted windows."""

    def __init__(
        self, channels: int, depth: int, heads: int, hidden: int, attention_ratio: float, kind: ConvKind
    ) -> None:
        super().__init__()
        first = depth - attention_ratio * depth
        self.blocks = nn.ModuleList(
            DehazeBlock(channels, heads, hidden, shifted=i % 2 == 1, attention=i >= first, kind=kind)
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        for block in self.blocks:
            x = block(x)
        return x


class Projection(nn.Module):
    """A convolution, and a pixel shuffle where `shuffle` > 1 under the authors' name, `proj`."""

    def __init__(self, conv: nn.Conv2d, shuffle: int = 0) -> None:
        super().__init__()
        self.proj: nn.Module = nn.Sequential(conv, nn.PixelShuffle(shuffle)) if shuffle else conv

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class DehazeFormer(nn.Module):
    """Vision Transformers for Single Image Dehazing (Song et al., IEEE Transactions on Image Processing 2023).

    arXiv 2204.03883. Three levels of window attention and convolutions that predict gain K and shift B of
    y = K x - B + x. The network sees 2x - 1 and its output is mapped back. The defaults are DehazeFormer-T. S, B and D
    have depths (8, 8, 8, 4, 4) times 1, 2 and 4 and attention ratios (1/4, 1/2, 3/4, 0, 0); M is (12, 12, 12, 6, 6)
    with `conv` "conv"; L has widths (48, 96, 192, 96, 48), depths (16, 16, 16, 12, 12) and "conv"; W has those widths
    with the depths of B and depthwise convolutions. Any H and W: reflected right and bottom up to a multiple of 4 and
    at least 28 (the border repeated where the image is too small to reflect) and cropped after. The norms and the
    fusions use statistics of the whole image, which differ between a training patch and a full image.

    The authors' weights are under the MIT licence. Departure: the authors clamp to [-1, 1] when they test; the output
    here is not clamped. Raises ValueError unless every field with one entry per level has five.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "layer3"

    def __init__(
        self,
        *,
        widths: Sequence[int] = (24, 48, 96, 48, 24),
        expansions: Sequence[float] = (2, 4, 4, 2, 2),
        depths: Sequence[int] = (4, 4, 4, 2, 2),
        heads: Sequence[int] = (2, 4, 6, 1, 1),
        attention: Sequence[float] = (0, 1 / 2, 1, 0, 0),
        conv: ConvKind = "depthwise",
    ) -> None:
        super().__init__()
        _check(widths, expansions, depths, heads, attention)
        hidden = [int(expansion * width) for expansion, width in zip(expansions, widths, strict=True)]
        stages = [Stage(*fields, conv) for fields in zip(widths, depths, heads, hidden, attention, strict=True)]
        c1, c2, c3 = widths[:3]
        self.patch_embed = Projection(reflected_conv(3, c1, 3))
        self.layer1 = stages[0]
        self.patch_merge1 = Projection(nn.Conv2d(c1, c2, 2, stride=2))
        self.skip1 = nn.Conv2d(c1, c1, 1)
        self.layer2 = stages[1]
        self.patch_merge2 = Projection(nn.Conv2d(c2, c3, 2, stride=2))
        self.skip2 = nn.Conv2d(c2, c2, 1)
        self.layer3 = stages[2]
        self.patch_split1 = Projection(nn.Conv2d(c3, 4 * c2, 1), shuffle=2)
        self.fusion1 = SelectiveFusion(c2)
        self.layer4 = stages[3]
        self.patch_split2 = Projection(nn.Conv2d(c2, 4 * c1, 1), shuffle=2)
        self.fusion2 = SelectiveFusion(c1)
        self.layer5 = stages[4]
        self.patch_unembed = Projection(reflected_conv(c1, 4, 3), shuffle=1)
        initialise(self, sum(depths))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W] -> [B, 3, H, W]
        height, width = x.shape[-2:]
        padded = pad_to(2 * x - 1, 4, "reflect", smallest=SMALLEST)
        a = self.layer1(self.patch_embed(padded))
        b = self.layer2(self.patch_merge1(a))
        z = self.patch_split1(self.layer3(self.patch_merge2(b)))
        z = self.layer4(self.fusion1(z, self.skip2(b)) + z)
        z = self.patch_split2(z)
        z = self.layer5(self.fusion2(z, self.skip1(a)) + z)
        gain, shift = self.patch_unembed(z).split((1, 3), dim=1)
        y = gain * padded - shift + padded
        return (y[:, :, :height, :width] + 1) / 2


def _check(widths: Sequence[int], *others: Sequence[float]) -> None:
    if any(len(field) != 5 for field in (widths, *others)):
        raise ValueError("widths, expansions, depths, heads and attention need one number for each of five levels")
    if widths[:2] != widths[:2:-1]:
        raise ValueError(f"widths {tuple(widths)}: the last two levels have the widths of the first two")
