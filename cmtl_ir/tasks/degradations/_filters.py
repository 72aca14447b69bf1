"""Convolution with a kernel per sample, borders, and blocks on the full image's grid.

Samples are transformed one by one: a batched product may round otherwise in another batch.
Legend of shapes: B samples, C channels, h x w pixels, k x k kernel (k odd).
"""

from __future__ import annotations

import torch
from torch import Tensor


def reflected(indices: Tensor, length: int) -> Tensor:
    """Pixel numbers outside 0 .. length - 1 folded back without repeating the edge, however far outside."""
    period = max(2 * (length - 1), 1)
    folded = indices % period
    return torch.minimum(folded, period - folded) if length > 1 else torch.zeros_like(indices)


def padded(images: Tensor, margin: int) -> Tensor:
    """[B, C, h, w] -> [B, C, h + 2 margin, w + 2 margin], reflected."""
    for axis in (2, 3):
        length = images.shape[axis]
        outside = torch.arange(-margin, length + margin, device=images.device)
        images = images.index_select(axis, reflected(outside, length))
    return images


def normalised(kernels: Tensor) -> Tensor:
    """[B, k, k] -> the same, each with sum 1."""
    return torch.stack([kernel / kernel.sum() for kernel in kernels])


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """images [B, C, h, w], kernels [B, k, k] -> [B, C, h, w]; through the FFT, borders reflected."""
    height, width = images.shape[2:]
    reach = kernels.shape[1] // 2
    wide = padded(images, reach)
    shape = (wide.shape[2], wide.shape[3])
    blurred = []
    for image, kernel in zip(wide, kernels, strict=True):
        product = torch.fft.rfft2(image) * torch.fft.rfft2(kernel, s=shape)
        blurred.append(torch.fft.irfft2(product, s=shape)[:, 2 * reach :, 2 * reach :])
    return torch.stack(blurred)[:, :, :height, :width]


def grid_of(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets from the middle of a k x k kernel: y [k, 1] and x [1, k]."""
    offsets = torch.arange(size, device=device, dtype=torch.float32) - size // 2
    return offsets[:, None], offsets[None, :]


def to_grid(images: Tensor, origin: Tensor, period: int, margin: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Crops laid on the full image's grid of period x period cells, missing pixels reflected.

    [B, C, h, w] -> [B, C, h', w'] with h', w' multiples of the period (the first of which lies on a grid line),
    and where the crop's rows [B, h] and columns [B, w] are, for `gathered`. margin: further pixels around it.
    """
    before = -(-margin // period) * period
    where, sources = [], []
    for axis in (0, 1):
        length = images.shape[2 + axis]
        cells = -(-(length + period - 1 + before + margin) // period)
        phase = origin[:, axis, None] % period + before  # [B, 1]
        sources.append(reflected(torch.arange(cells * period, device=images.device) - phase, length))
        where.append(torch.arange(length, device=images.device) + phase)
    return gathered(images, *sources), where[0], where[1]


def gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """[B, C, h, w] at rows [B, h'] and columns [B, w'] -> [B, C, h', w']."""
    batch, channels, _, width = images.shape
    tall = images.gather(2, rows[:, None, :, None].expand(batch, channels, rows.shape[1], width))
    return tall.gather(3, columns[:, None, None, :].expand(batch, channels, rows.shape[1], columns.shape[1]))
