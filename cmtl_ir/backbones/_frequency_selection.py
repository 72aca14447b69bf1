"""The blocks of FSNet. Shapes: B images, C channels of a level, H x W pixels of a level, G filter groups."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FILTER_GROUPS: Final = 8
REFERENCE: Final = 256  # pixels of the map that a window's size refers to


class LocalMean(nn.Module):
    """Mean over a window around each pixel: [B, C, H, W] -> the same shape, or [B, C, 1, 1] over the whole map.

    `window` is the side of the window on a map of 256 pixels and scales with the map; `None` means the whole map.
    Pixels whose window would reach over the border take the mean of the nearest one whose window does not.
    """

    def __init__(self, window: int | None) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        if self.window is None:
            return x.mean((2, 3), keepdim=True)
        rows, columns = (size * self.window // REFERENCE for size in x.shape[-2:])
        # One direction after the other: rows + columns additions per pixel instead of rows * columns.
        mean = F.avg_pool2d(F.avg_pool2d(x, (rows, 1), stride=1), (1, columns), stride=1)
        top, left = (rows - 1) // 2, (columns - 1) // 2
        return F.pad(mean, (left, columns - 1 - left, top, rows - 1 - top), mode="replicate")


class ConvBlock(nn.Module):
    """A convolution, transposed with stride 2 if `enlarges`, with a GELU after it if `active`."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, active: bool = False, enlarges: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
            if enlarges
            else nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)
        ]
        self.main = nn.Sequential(*layers, *([nn.GELU()] if active else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


class Modulation(nn.Module):
    """Weigh low and high frequencies against each other, in one softmax over both and all channels."""

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__()
        hidden = max(channels // 2, 32)
        self.pool = LocalMean(window)
        self.fc = nn.Conv2d(channels, hidden, 1)
        self.fcs = nn.ModuleList([nn.Conv2d(hidden, channels, 1) for _ in range(2)])
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:  # [B, C, H, W] each
        z = self.fc(self.pool(low + high))
        weights = torch.cat([fully(z) for fully in self.fcs], dim=1).softmax(1)
        of_high, of_low = weights.chunk(2, dim=1)
        return self.out(high * of_high + low * of_low)


class DynamicFilter(nn.Module):
    """Split a map by a low-pass filter made from the map itself, and modulate both parts: [B, C, H, W] -> same."""

    def __init__(self, channels: int, size: int, window: int | None) -> None:
        super().__init__()
        self.size = size
        self.lamb_l = nn.Parameter(torch.zeros(channels))
        self.lamb_h = nn.Parameter(torch.zeros(channels))
        self.conv = nn.Conv2d(channels, FILTER_GROUPS * size * size, 1, bias=False)
        self.bn = nn.BatchNorm2d(FILTER_GROUPS * size * size)
        self.modulate = Modulation(channels, window)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        batch, channels = x.shape[:2]
        taps = self.bn(self.conv(x.mean((2, 3), keepdim=True))).reshape(batch, FILTER_GROUPS, -1).softmax(-1)
        filters = taps.repeat_interleave(channels // FILTER_GROUPS, dim=1).reshape(-1, 1, self.size, self.size)
        padded = F.pad(x, (self.size // 2,) * 4, mode="reflect")
        # Every channel of every image has its own filter: one convolution over all of them as channels.
        flat = padded.reshape(1, batch * channels, *padded.shape[-2:])
        low = F.conv2d(flat, filters.to(flat.dtype), groups=batch * channels).reshape(x.shape)
        return self.modulate(low, x - low)


class GlobalFrequencies(nn.Module):
    """Scale the local mean and the rest of each channel: [B, C, H, W] -> same."""

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__()
        self.fscale_d = nn.Parameter(torch.zeros(channels))
        self.fscale_h = nn.Parameter(torch.zeros(channels))
        self.pool = LocalMean(window)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.pool(x)
        return mean * self.fscale_d[:, None, None] + (x - mean) * (self.fscale_h[:, None, None] + 1)


class LocalFrequencies(nn.Module):
    """Scale the local mean and the rest in each quarter of the map separately: [B, C, H, W] -> same."""

    def __init__(self, channels: int, window: int | None) -> None:
        super().__init__()
        self.h = nn.Parameter(torch.zeros(4 * channels))
        self.l = nn.Parameter(torch.zeros(4 * channels))
        self.pool = LocalMean(window)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        half = (height // 2, width // 2)
        quarters = x.reshape(batch, channels, 2, half[0], 2, half[1]).transpose(3, 4)
        quarters = quarters.reshape(batch, 4 * channels, *half)
        mean = self.pool(quarters)
        scaled = (quarters - mean) * self.h[:, None, None] + mean * self.l[:, None, None]
        return scaled.reshape(batch, channels, 2, 2, *half).transpose(3, 4).reshape(x.shape)


class ResidualBlock(nn.Module):
    """Two convolutions around the frequency modules, added to the input; `filtered`: with dynamic filters before."""

    def __init__(self, channels: int, window: int | None, filtered: bool) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvBlock(channels, channels, active=True)
        self.conv2 = ConvBlock(channels, channels)
        self.filtered = filtered
        if filtered:
            self.dyna = DynamicFilter(half, 3, window)
            self.dyna_2 = DynamicFilter(half, 5, window)
        self.localap = LocalFrequencies(half, window)
        self.global_ap = GlobalFrequencies(half, window)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W]
        first, second = self.conv1(x).chunk(2, dim=1)
        if self.filtered:
            first, second = self.dyna(first), self.dyna_2(second)
        return x + self.conv2(torch.cat([self.global_ap(first), self.localap(second)], dim=1))


def residual_blocks(channels: int, count: int, window: int | None) -> list[nn.Module]:
    """Blocks of one level; the last one is filtered."""
    return [ResidualBlock(channels, window, filtered=number == count - 1) for number in range(count)]
