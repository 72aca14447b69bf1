"""MEASNet's experts per frequency band (FE) and the image's spectrum as a guide (FB).

Shapes: B images, C channels of a level, H x W pixels, E experts.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._experts import largest, mixed
from cmtl_ir.backbones._layers import ChannelNorm
from cmtl_ir.backbones._transposed_attention import CrossChannelAttention, depthwise

GROUPS, TAPS = 8, 9
EXPERTS, CHOSEN = 5, 2


def _pointwise(channels: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(channels, outputs, 1, bias=bias)


# ---------------------------------------------------------------------------------------------------- experts per band


class FrequencySplit(nn.Module):
    """A low-pass of 3x3 taps that the image chooses for each group of channels, and the rest."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.lamb_l = nn.Parameter(torch.zeros(channels))
        self.lamb_h = nn.Parameter(torch.zeros(channels))
        self.conv = _pointwise(channels, GROUPS * TAPS, bias=False)
        self.bn = nn.BatchNorm2d(GROUPS * TAPS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B, C, H, W] -> high, low
        batch, channels, height, width = x.shape
        taps = self.bn(self.conv(x.mean((2, 3), keepdim=True))).reshape(batch, GROUPS, TAPS).softmax(2)
        taps = taps.repeat_interleave(channels // GROUPS, dim=1)[..., None, None]  # [B, C, 9, 1, 1]
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        low = torch.zeros_like(x)
        for tap in range(TAPS):
            row, column = divmod(tap, 3)
            low = low + taps[:, :, tap] * padded[:, :, row : row + height, column : column + width]
        return x - low, low


class RankedExpert(nn.Module):
    """The product of two maps at a low rank."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.conv_1 = _pointwise(channels, rank)
        self.conv_2 = _pointwise(channels, rank)
        self.conv_3 = _pointwise(rank, channels)

    def forward(self, a: Tensor, k: Tensor) -> Tensor:
        return self.conv_3(self.conv_1(a) * self.conv_2(k))


class Router(nn.Module):
    """Expert probabilities [B, E] from the mean of the features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        linear = nn.Linear(channels, EXPERTS, bias=False)
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear, nn.Softmax(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class RankedMixture(nn.Module):
    """Features plus the two most probable experts, weighted by probabilities that are not renormalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(RankedExpert(channels, number + 2) for number in range(EXPERTS))
        self.wet = Router(channels)

    def forward(self, a: Tensor, k: Tensor) -> Tensor:
        probabilities = self.wet(a)
        weights = probabilities * largest(probabilities.detach(), CHOSEN)
        return a + mixed(weights, [partial(expert, a, k) for expert in self.experts])


class StripConv(nn.Module):
    """A depthwise 1x3 and a depthwise 3x1 convolution under the authors' name, `conv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), groups=channels),
            nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), groups=channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class BandBlock(nn.Module):
    """Q: local features `a` and features `k` with a far context meet in the ranked experts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_1 = nn.Sequential(first, nn.GELU(), _pointwise(channels, 2 * channels))
        self.agg_conv = nn.Sequential(nn.Conv2d(channels, channels, 4, stride=4, groups=channels), nn.GELU())
        self.conv = nn.Sequential(depthwise(channels, 3, bias=True), _pointwise(channels, channels))
        self.conv_2 = nn.Sequential(StripConv(channels), nn.GELU())
        self.moe_layer = RankedMixture(channels)
        self.proj = _pointwise(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W], sides of at least 16
        a, k = self.conv_1(x).chunk(2, dim=1)
        far = self.conv(self.agg_conv(self.agg_conv(k)))
        k = k + F.interpolate(far, k.shape[-2:], mode="bilinear")
        return self.proj(self.moe_layer(self.conv_2(a), k))


class Band(nn.Module):
    """M: one frequency band plus its block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_1 = ChannelNorm(channels, eps=1e-6)
        self.block = BandBlock(channels)
        self.norm_2 = ChannelNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(self.norm_1(x))


class FrequencyExperts(nn.Module):
    """FE: split the features into two bands, treat each and join them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spilit = FrequencySplit(channels)
        self.high_block = Band(channels)
        self.low_block = Band(channels)
        self.proj = _pointwise(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        high, low = self.spilit(x)
        return self.proj(torch.cat([self.high_block(high), self.low_block(low)], dim=1))


# ----------------------------------------------------------------------------------- the image's spectrum as a guide


class SpatialGate(nn.Module):
    """A gate per pixel, from the largest channel and the mean channel."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, 1, H, W]
        return self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)).sigmoid()


class ChannelGate(nn.Module):
    """A gate per channel, from the mean pixel and the largest pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        reduced = channels // 16
        self.squential = nn.Sequential(
            _pointwise(channels, reduced, bias=False), nn.ReLU(), _pointwise(reduced, channels, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, C, 1, 1]
        mean, most = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return (self.squential(mean) + self.squential(most)).sigmoid()


class FrequencyRefinement(nn.Module):
    """Each band gates the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.modulate1 = SpatialGate()
        self.modulate2 = ChannelGate(channels)
        self.conv = _pointwise(channels, channels)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:  # [B, C, H, W] each
        return self.conv(low * self.modulate1(high) + high * self.modulate2(low))


def split_spectrum(x: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the magnitudes of the high and the low frequencies of x [B, C, H, W].

    Low are the frequencies -h .. h - 1 with h = int(H // 128 * share), likewise along the width: none of them at
    sides below 128. `share` is [B, 2] in (0, 1).
    """
    exact = x.to(torch.promote_types(x.dtype, torch.float32))  # torch has no bfloat16 FFT

    def low_along(dim: int) -> Tensor:  # [B, side], whether a frequency is low
        side = x.shape[dim]
        half = (side // 128 * share[:, dim - 2]).int()[:, None]
        frequency = (torch.arange(side, device=x.device) + side // 2) % side - side // 2
        return (frequency >= -half) & (frequency < half)

    box = (low_along(2)[:, :, None] & low_along(3)[:, None, :])[:, None]  # [B, 1, H, W]
    spectrum = torch.fft.fft2(exact)
    parts = (torch.fft.ifft2(spectrum * mask).abs().to(x.dtype) for mask in (~box, box))
    return next(parts), next(parts)


class FrequencyBlock(nn.Module):
    """FB: the features attend to a refinement that the two bands of the resized image guide."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.param_alpha = nn.Parameter(torch.zeros(channels, 1, 1))
        self.param_beta = nn.Parameter(torch.ones(channels, 1, 1))
        self.initial_conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.aux_conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.score_generator = nn.Conv2d(2, 2, 7, padding=3)
        self.cross_layer_low = CrossChannelAttention(channels, heads)
        self.cross_layer_high = CrossChannelAttention(channels, heads)
        self.cross_layer_agg = CrossChannelAttention(channels, heads)
        self.freq_refinement = FrequencyRefinement(channels)
        self.rate_adaptive_conv = nn.Sequential(
            _pointwise(channels, channels // 8, bias=False), nn.GELU(), _pointwise(channels // 8, 2, bias=False)
        )

    def forward(self, x: Tensor, picture: Tensor) -> Tensor:  # [B, C, H, W], [B, 3, H0, W0] -> [B, C, H, W]
        guide = self.aux_conv(F.interpolate(picture, x.shape[-2:], mode="bilinear"))
        with torch.no_grad():  # a number of frequencies has no gradient
            share = self.rate_adaptive_conv(guide.mean((2, 3), keepdim=True)).sigmoid().flatten(1)
        high, low = split_spectrum(guide, share)
        # The authors' names are swapped: the high frequencies go through `cross_layer_low`.
        refined = self.freq_refinement(self.cross_layer_high(low, x), self.cross_layer_low(high, x))
        return self.param_alpha * self.cross_layer_agg(x, refined) + self.param_beta * x
