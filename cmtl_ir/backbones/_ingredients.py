"""The physical operations of IDR's ingredients. Shapes: B images, C channels, H x W pixels, T tasks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FILTER = 5  # pixels a side of the filters that undo a blur
SLOPE = 0.2  # of a fresh PReLU


class ResidualBlock(nn.Module):
    """x + conv relu conv x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


def _activated(channels: int, outputs: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, outputs, size, padding=size // 2), nn.PReLU(init=SLOPE))


def _branch(channels: int, outputs: int) -> list[nn.Module]:
    return [_activated(2 * channels, outputs), ResidualBlock(outputs), ResidualBlock(outputs)]


class Addition(nn.Module):
    """Predicts what to add under the authors' name, `add`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.add = nn.Sequential(*_branch(channels, channels))

    def forward(self, features: Tensor, both: Tensor) -> Tensor:
        return features + self.add(both)


class Filtering(nn.Module):
    """Predicts a filter for every pixel and channel, and applies it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(*_branch(channels, channels), _activated(channels, FILTER**2 * channels, 1))

    def forward(self, features: Tensor, both: Tensor) -> Tensor:
        taps = self.convolve(both).unflatten(1, (-1, FILTER**2))  # [B, C, 25, H, W]
        padded = F.pad(features, (FILTER // 2,) * 4, mode="replicate")
        height, width = features.shape[-2:]
        shifted = (
            padded[:, :, row : row + height, column : column + width] * taps[:, :, FILTER * row + column]
            for row in range(FILTER)
            for column in range(FILTER)
        )
        return torch.stack(list(shifted)).sum(0)


class Scaling(nn.Module):
    """Predicts a scale and a shift for every pixel and channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Sequential(*_branch(channels, 2 * channels))

    def forward(self, features: Tensor, both: Tensor) -> Tensor:
        scale, shift = self.weight(both).chunk(2, dim=1)
        return scale * features + shift


class Principle(nn.Module):
    """The three operations, and the class of the degradation."""

    def __init__(self, channels: int, tasks: int) -> None:
        super().__init__()
        self.mlp_img = nn.Conv2d(channels, channels, 1)
        self.mlp_degra = nn.Conv2d(channels, channels, 1)
        self.convolve = Filtering(channels)
        self.addition = Addition(channels)
        self.point = Scaling(channels)
        pooled = nn.AdaptiveAvgPool2d(1)
        self.pred = nn.Sequential(pooled, nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, tasks, 1))

    def classes(self, features: Tensor) -> Tensor:  # [B, C, H, W] -> [B, T]
        """Probabilities of the tasks."""
        return self.pred(features).flatten(1).softmax(1)

    def forward(self, features: Tensor, degradation: Tensor, weights: Tensor, in_sequence: bool) -> Tensor:
        """The weighted sum [B, C, H, W] of adding, convolving and scaling; `weights` [B, 3].

        `in_sequence`: the latter two act on the result of the first, as in the authors' second stage.
        """
        image = self.mlp_img(features)
        both = torch.stack([image, self.mlp_degra(degradation)], dim=2).flatten(1, 2)  # channels alternate
        added = self.addition(image, both)
        source = added if in_sequence else image
        share = weights[:, :, None, None, None]
        return share[:, 0] * added + share[:, 1] * self.convolve(source, both) + share[:, 2] * self.point(source, both)


class Supervision(nn.Module):
    """SAM: a side image made of the features, which then gates them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, 3, 1, bias=False)
        self.conv3 = nn.Conv2d(3, channels, 1, bias=False)

    def forward(self, features: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """The side image [B, 3, H, W], the gated features [B, C, H, W]."""
        side = self.conv2(features) + image
        return side, self.conv1(features) * self.conv3(side).sigmoid() + features
