"""FSNet. Shapes: B images, C channels of a level, H x W pixels of a level."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._frequency_selection import REFERENCE, ConvBlock, residual_blocks
from cmtl_ir.backbones._instance import AffineInstanceNorm
from cmtl_ir.backbones._layers import pad_to


class Nested(nn.Module):
    """Blocks whose middle half runs at half the resolution, added to the input: [B, C, H, W] -> same."""

    def __init__(self, channels: int, blocks: int, window: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(residual_blocks(channels, blocks, window))
        self.down = nn.Conv2d(channels, channels, 2, stride=2, groups=channels)
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = skip = x
        quarter = len(self.layers) // 4
        for number, block in enumerate(self.layers):
            if number == quarter:
                skip, h = h, self.down(h)
            if number == len(self.layers) - quarter:
                h = self.conv(torch.cat([F.interpolate(h, skip.shape[-2:], mode="bilinear"), skip], dim=1))
            h = block(h)
        return x + h


class Level(nn.Module):
    """The blocks of one level under the authors' name, `layers`."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        return self.layers(x)


class ShallowFeatures(nn.Module):
    """SCM: a reduced image [B, 3, H, W] -> features [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            ConvBlock(3, channels // 4, active=True),
            ConvBlock(channels // 4, channels // 2, 1, active=True),
            ConvBlock(channels // 2, channels // 2, active=True),
            ConvBlock(channels // 2, channels, 1),
            AffineInstanceNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class Merge(nn.Module):
    """FAM: the features of a level and of the reduced image, [B, C, H, W] each -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.merge = ConvBlock(2 * channels, channels)

    def forward(self, features: Tensor, shallow: Tensor) -> Tensor:
        return self.merge(torch.cat([features, shallow], dim=1))


class FSNet(nn.Module):
    """Image Restoration via Frequency Selection (Cui et al., TPAMI 2024).

    A U-Net of three levels that restores the image at a quarter, half and all of its resolution and returns these
    three images in this order; of an H x W image the smaller ones have ceil(H / 4) x ceil(W / 4) and
    ceil(H / 2) x ceil(W / 2) pixels. Any H and W: reflected right and bottom up to a multiple of 8, and to 32 pixels
    at `window` 80 (16 at 210 or `None`), and cropped after. `task` is not read.

    `window` is the side of the windows whose mean counts as low frequency, on a map of 256 pixels: 80 for deblurring,
    210 for outdoor dehazing, `None` (the whole map) for indoor dehazing and desnowing. It is not part of the weights.

    In training, BatchNorm over one vector per image makes samples depend on each other and refuses a batch of one.
    `frozen_statistics` keeps these norms at their running statistics (zero mean and unit variance in a new network),
    so that row gradients exist. The authors' weights are under the MIT licence, in the file's entry `model`.

    Departure: the window follows the size of every map; the authors' class keeps that of the first image it sees.
    """

    couples_samples = True
    unused: tuple[str, ...] = ("*.lamb_l", "*.lamb_h")
    latent_module: ClassVar[str] = "Encoder.2"
    output_weights: ClassVar[tuple[float, ...]] = (1.0, 1.0, 1.0)
    restored_output: ClassVar[Literal["first", "last"]] = "last"

    def __init__(
        self, *, width: int = 32, blocks: int = 16, window: int | None = 80, frozen_statistics: bool = False
    ) -> None:
        """`width`: channels of the finest level, a multiple of 16; `blocks`: residual blocks of each level."""
        super().__init__()
        if width % 16 or blocks < 4:
            raise ValueError(f"width {width} must be a multiple of 16, and blocks {blocks} at least 4")
        if window is not None and not 1 <= window <= REFERENCE:
            raise ValueError(f"window {window} is not between 1 and {REFERENCE}")
        self.smallest = 16 if window is None else max(16, 8 * -(-REFERENCE // window))
        self.frozen_statistics = frozen_statistics
        self.couples_samples = not frozen_statistics
        self.Encoder = nn.ModuleList(self._levels(width, blocks, window))
        self.Decoder = nn.ModuleList(reversed(self._levels(width, blocks, window)))
        self._make_convolutions(width)

    @staticmethod
    def _levels(width: int, blocks: int, window: int | None) -> list[Level]:
        """The three levels, finest first."""
        wide = [nn.Sequential(*residual_blocks(channels, blocks, window)) for channels in (2 * width, 4 * width)]
        return [Level(layers) for layers in (Nested(width, blocks, window), *wide)]

    def _make_convolutions(self, width: int) -> None:
        c1, c2, c3 = width, 2 * width, 4 * width
        self.feat_extract = nn.ModuleList([
            ConvBlock(3, c1, active=True),
            ConvBlock(c1, c2, stride=2, active=True),
            ConvBlock(c2, c3, stride=2, active=True),
            ConvBlock(c3, c2, active=True, enlarges=True),
            ConvBlock(c2, c1, active=True, enlarges=True),
            ConvBlock(c1, 3),
        ])  # fmt: skip
        self.Convs = nn.ModuleList([ConvBlock(c3, c2, 1, active=True), ConvBlock(c2, c1, 1, active=True)])
        self.ConvsOut = nn.ModuleList([ConvBlock(c3, 3), ConvBlock(c2, 3)])
        self.FAM1, self.SCM1 = Merge(c3), ShallowFeatures(c3)
        self.FAM2, self.SCM2 = Merge(c2), ShallowFeatures(c2)

    def train(self, mode: bool = True) -> FSNet:
        """As nn.Module's; frozen statistics stay frozen."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, x: Tensor, task: Tensor | None = None) -> list[Tensor]:
        """[B, 3, H, W] -> the restored image at 1/4, 1/2 and 1 of its height and width."""
        height, width = x.shape[-2:]
        full = pad_to(x, 8, "reflect", self.smallest)
        half, quarter = full[..., ::2, ::2], full[..., ::4, ::4]
        r1 = self.Encoder[0](self.feat_extract[0](full))
        r2 = self.Encoder[1](self.FAM2(self.feat_extract[1](r1), self.SCM2(half)))
        z = self.Encoder[2](self.FAM1(self.feat_extract[2](r2), self.SCM1(quarter)))
        z = self.Decoder[0](z)
        coarse = self.ConvsOut[0](z) + quarter
        z = self.Decoder[1](self.Convs[0](torch.cat([self.feat_extract[3](z), r2], dim=1)))
        middle = self.ConvsOut[1](z) + half
        z = self.Decoder[2](self.Convs[1](torch.cat([self.feat_extract[4](z), r1], dim=1)))
        fine = self.feat_extract[5](z) + full
        return [
            image[..., : -(-height // scale), : -(-width // scale)]
            for image, scale in ((coarse, 4), (middle, 2), (fine, 1))
        ]
