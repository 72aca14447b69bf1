"""MIRNet-v2. Shapes: B images, C channels of a stream, H x W pixels of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to

SLOPE: Final = 0.2
GROUPS: Final = (1, 2, 4, 4)  # groups of the convolutions, for each recursive residual group


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, bias=False)


class GlobalContext(nn.Module):
    """Add one vector to every pixel, made of the pixels that attention picks: [B, C, H, W] -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_mask = pointwise(channels, 1)
        self.channel_add_conv = nn.Sequential(
            pointwise(channels, channels), nn.LeakyReLU(SLOPE), pointwise(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv_mask(x).flatten(2).softmax(-1)  # [B, 1, HW]
        context = (x.flatten(2) @ weights.mT)[..., None]  # [B, C, 1, 1]
        return x + self.channel_add_conv(context)


class ContextBlock(nn.Module):
    """RCB: two grouped convolutions with global context, added to the input: [B, C, H, W] -> same."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False) for _ in range(2))
        self.body = nn.Sequential(first, nn.LeakyReLU(SLOPE), second)
        self.gcnet = GlobalContext(channels)
        self.act = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.gcnet(self.body(x)))


class SelectiveFusion(nn.Module):
    """SKFF: the mean of two streams [B, C, H, W], weighted for each channel by what both contain."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = max(channels // 8, 4)
        self.conv_du = nn.Sequential(pointwise(channels, reduced), nn.LeakyReLU(SLOPE))
        self.fcs = nn.ModuleList([pointwise(reduced, channels) for _ in range(2)])

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        z = self.conv_du((first + second).mean((2, 3), keepdim=True))
        weights = torch.stack([fully(z) for fully in self.fcs], dim=1).softmax(1)  # [B, 2, C, 1, 1]
        return weights[:, 0] * first + weights[:, 1] * second


class Resampling(nn.Module):
    """Layers under the authors' name, `bot`."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.bot = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.bot(x)


class Down(nn.Module):
    """[B, C, H, W] -> [B, D, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Resampling(nn.AvgPool2d(2), pointwise(inputs, outputs)))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class Up(nn.Module):
    """[B, C, H, W] -> [B, D, 2H, 2W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Resampling(pointwise(inputs, outputs), nn.Upsample(scale_factor=2, mode="bilinear")))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class MultiScaleBlock(nn.Module):
    """MRB: three parallel resolutions that exchange features twice, with the same blocks: [B, C, H, W] -> same."""

    def __init__(self, widths: Sequence[int], groups: int) -> None:
        super().__init__()
        c0, c1, c2 = widths
        self.dau_top, self.dau_mid, self.dau_bot = (ContextBlock(width, groups) for width in widths)
        self.down2 = Down(c0, c1)
        self.down4 = nn.Sequential(Down(c0, c1), Down(c1, c2))
        self.up21_1, self.up21_2 = Up(c1, c0), Up(c1, c0)
        self.up32_1, self.up32_2 = Up(c2, c1), Up(c2, c1)
        self.conv_out = pointwise(c0, c0)
        self.skff_top, self.skff_mid = SelectiveFusion(c0), SelectiveFusion(c1)

    def forward(self, x: Tensor) -> Tensor:
        top, middle, bottom = x, self.down2(x), self.down4(x)
        for up21, up32 in ((self.up21_1, self.up32_1), (self.up21_2, self.up32_2)):
            top, middle, bottom = self.dau_top(top), self.dau_mid(middle), self.dau_bot(bottom)
            middle = self.skff_mid(middle, up32(bottom))
            top = self.skff_top(top, up21(middle))
        return x + self.conv_out(top)


class ResidualGroup(nn.Module):
    """RRG: multi-scale blocks and a convolution, added to the input: [B, C, H, W] -> same."""

    def __init__(self, widths: Sequence[int], blocks: int, groups: int) -> None:
        super().__init__()
        multi_scale = (MultiScaleBlock(widths, groups) for _ in range(blocks))
        self.body = nn.Sequential(*multi_scale, nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class MIRNetV2(nn.Module):
    """Learning Enriched Features for Fast Image Restoration and Enhancement (Zamir et al., TPAMI 2022, 2205.01649).

    MIRNet-v2: four groups of blocks that keep a stream at full resolution next to streams at a half and a quarter of
    it. Any H and W: reflected right and bottom up to a multiple of 4 and cropped after. The context is a mean over
    the whole image, so tiled inference gives another result than one pass. `task` is not read. The latent is the
    last group's output, at full resolution, as the network has no bottleneck.

    The authors' weights are licensed for non-commercial use. Those for super-resolution take an image that is
    enlarged already. Departure: none; written from the paper's equations.
    """

    couples_samples = False
    unused: tuple[str, ...] = ()
    latent_module: ClassVar[str] = "body.3"

    def __init__(self, *, width: int = 80, growth: float = 1.5, blocks: int = 2, dual_pixel: bool = False) -> None:
        """Build the four groups.

        width: channels of the stream at full resolution; those of all three streams must be multiples of 4.
        growth: factor between the channels of one stream and of the next coarser one.
        blocks: multi-scale blocks in each group.
        dual_pixel: take [B, 6, H, W], the two views of a dual-pixel sensor, and add no input to the output.
        """
        super().__init__()
        widths = [width, int(width * growth), int(width * growth**2)]
        if any(channels % max(GROUPS) for channels in widths):
            raise ValueError(f"width {width} and growth {growth} give {widths} channels, which must be multiples of 4")
        self.dual_pixel = dual_pixel
        self.conv_in = nn.Conv2d(6 if dual_pixel else 3, width, 3, padding=1, bias=False)
        self.body = nn.Sequential(*(ResidualGroup(widths, blocks, groups) for groups in GROUPS))
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1, bias=False)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """[B, 3, H, W] (of `dual_pixel` [B, 6, H, W]) -> [B, 3, H, W]."""
        height, width = x.shape[-2:]
        padded = pad_to(x, 4, "reflect")
        features = self.conv_in(padded)
        h = self.body(features)
        y = self.conv_out(h + features) if self.dual_pixel else self.conv_out(h) + padded
        return y[:, :, :height, :width]
