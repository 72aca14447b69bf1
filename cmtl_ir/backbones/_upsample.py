"""Upsampling by sub-pixel convolutions, as the networks for super-resolution end with it."""

from __future__ import annotations

import math

from torch import nn


def shuffle_steps(channels: int, scale: int) -> list[nn.Module]:
    """Convolutions and pixel shuffles from [B, C, H, W] to [B, C, scale H, scale W].

    Powers of two are climbed in steps of two, and three in one step. Raises ValueError for other scales.
    """
    factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    if math.prod(factors) != scale:
        raise ValueError(f"pixelshuffle has the scales 2, 3, 4, 8 and so on, not {scale}")
    steps = [(nn.Conv2d(channels, channels * one**2, 3, padding=1), nn.PixelShuffle(one)) for one in factors]
    return [module for step in steps for module in step]


def direct_steps(channels: int, scale: int) -> list[nn.Module]:
    """One convolution and one pixel shuffle, from [B, C, H, W] to [B, 3, scale H, scale W]."""
    return [nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)]


def check_upsampler(upsampler: str, scale: int) -> None:
    """Raise ValueError unless there is an upsampler exactly where the scale is not 1."""
    if (upsampler == "") != (scale == 1):
        raise ValueError(f"upsampler {upsampler!r} does not fit scale {scale}: scale 1 has none, other scales need one")
