"""AdaIR. Shapes: B images, C channels of a level, H x W pixels of a level, n heads of c = C / n channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._transposed_attention import attend_channels
from cmtl_ir.backbones.restormer import NormKind, Restormer

CELL = 128  # pixels of a map per row or column that the low frequencies can gain


class CrossAttention(nn.Module):
    """Attention between channels whose queries and values come from two maps [B, C, H, W]."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.q_dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.kv_dwconv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels, bias=False)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        key, value = self.kv_dwconv(self.kv(context)).chunk(2, dim=1)
        return self.project_out(attend_channels(self.q_dwconv(self.q(x)), key, value, self.temperature))


class SpatialGate(nn.Module):
    """A factor in (0, 1) per pixel, from the maximum and the mean over channels: [B, C, H, W] -> [B, 1, H, W]."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)))


class ChannelGate(nn.Module):
    """A factor in (0, 1) per channel, from the mean and the maximum over pixels: [B, C, H, W] -> [B, C, 1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = channels // 16
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, reduced, 1, bias=False), nn.ReLU(), nn.Conv2d(reduced, channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True)))


class FrequencyRefine(nn.Module):
    """Each part gates the other, then their sum is projected: low and high [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.SpatialGate = SpatialGate()
        self.ChannelGate = ChannelGate(channels)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.proj(low * self.SpatialGate(high) + high * self.ChannelGate(low))


def split_frequencies(x: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
    """Magnitudes of the low and of the high frequencies of x [B, C, H, W], cut at `rates` [B, 2] in [0, 1).

    The low ones are those of the int(H // 128 * rate) nearest rows and the columns alike: none below 256 pixels.
    """
    height, width = x.shape[-2:]
    spectrum = torch.fft.fft2(x if x.dtype == torch.float64 else x.float(), norm="forward")
    spectrum = spectrum.roll((height // 2, width // 2), dims=(2, 3))
    near = [_near(size, rate) for size, rate in zip((height, width), rates.unbind(1), strict=True)]
    mask = (near[0][:, :, None] & near[1][:, None, :])[:, None]  # [B, 1, H, W]
    return _magnitude(spectrum * mask), _magnitude(spectrum * ~mask)


def _near(size: int, rate: Tensor) -> Tensor:
    """[B, size]: places around the centre that belong to the low frequencies, from `rate` [B]."""
    reach = (size // CELL * rate).floor()[:, None]
    offsets = torch.arange(size, device=rate.device) - size // 2
    return (offsets >= -reach) & (offsets < reach)


def _magnitude(spectrum: Tensor) -> Tensor:
    height, width = spectrum.shape[-2:]
    return torch.fft.ifft2(spectrum.roll((-(height // 2), -(width // 2)), dims=(2, 3)), norm="forward").abs()


class FrequencyBlock(nn.Module):
    """AFLB: the input image's low and high frequencies attend to the features, which attend to their sum."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.para1 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.para2 = nn.Parameter(torch.ones(channels, 1, 1))
        self.conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.score_gen = nn.Conv2d(2, 2, 7, padding=3)
        self.channel_cross_l = CrossAttention(channels, heads)
        self.channel_cross_h = CrossAttention(channels, heads)
        self.channel_cross_agg = CrossAttention(channels, heads)
        self.frequency_refine = FrequencyRefine(channels)
        self.rate_conv = nn.Sequential(
            nn.Conv2d(channels, channels // 8, 1, bias=False), nn.GELU(), nn.Conv2d(channels // 8, 2, 1, bias=False)
        )

    def forward(self, image: Tensor, features: Tensor) -> Tensor:  # [B, 3, ., .], [B, C, H, W] -> [B, C, H, W]
        x = self.conv1(F.interpolate(image, features.shape[-2:], mode="bilinear"))
        with torch.no_grad():  # the integer that it is rounded to passes no gradient
            rates = torch.sigmoid(self.rate_conv(x.mean((2, 3), keepdim=True)))
        low, high = split_frequencies(x, rates.flatten(1))
        # The authors' names are crossed: `l` serves the high frequencies.
        high, low = self.channel_cross_l(high, features), self.channel_cross_h(low, features)
        summed = self.channel_cross_agg(features, self.frequency_refine(low, high))
        return summed * self.para1 + features * self.para2


class AdaIR(Restormer):
    """AdaIR: Adaptive All-in-One Image Restoration via Frequency Mining (Cui et al., ICLR 2025, arXiv 2403.14614).

    Restormer with a frequency block after the latent and after two levels of the decoder. Any H and W: reflected
    right and bottom up to a multiple of 8 and cropped after. It finds the degradation itself: `task` is not read.

    The low frequencies are empty at a level whose maps have less than 256 pixels in a direction, and the convolution
    that bounds them never learns, as in the authors' code: on patches of 128 pixels only the high ones are seen, and
    at the finest block only images with both sides from 512 pixels are split at all. The authors' weights are under
    the MIT licence.

    Departure: none.
    """

    unused: tuple[str, ...] = ("fre?.conv.*", "fre?.score_gen.*", "fre?.rate_conv.*")

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
        """As Restormer; `width` is a multiple of 8, and `heads[2]` is the number of heads of the frequency blocks."""
        if width % 8:
            raise ValueError(f"width {width} is not a multiple of 8, which the frequency blocks reduce by")
        super().__init__(
            width=width,
            blocks=blocks,
            refinement_blocks=refinement_blocks,
            heads=heads,
            expansion=expansion,
            norm=norm,
        )
        self.fre1 = FrequencyBlock(8 * width, heads[2])
        self.fre2 = FrequencyBlock(4 * width, heads[2])
        self.fre3 = FrequencyBlock(2 * width, heads[2])

    def between(self, level: int, h: Tensor, image: Tensor) -> Tensor:
        block = (self.fre3, self.fre2, self.fre1)[level - 2]
        return block(image, h)
