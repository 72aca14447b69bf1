"""Convolution with a kernel per sample, borders, and blocks on the grid of the full image.

Samples are transformed one by one, because a batched product may round differently in another batch.
Legend of shapes: B samples, C channels, h x w pixels, k x k kernel (k odd).
"""

from __future__ import annotations

import torch
from torch import Tensor


def reflected(indices: Tensor, length: int) -> Tensor:
    """Fold pixel numbers from any distance outside 0 .. length - 1 back into it, without repeating the edge."""
    period = max(2 * (length - 1), 1)
    folded = indices % period
    return torch.minimum(folded, period - folded) if length > 1 else torch.zeros_like(indices)


def padded(images: Tensor, margin: int) -> Tensor:
    """Pad by reflection: [B, C, h, w] -> [B, C, h + 2 margin, w + 2 margin]."""
    for axis in (2, 3):
        length = images.shape[axis]
        outside = torch.arange(-margin, length + margin, device=images.device)
        images = images.index_select(axis, reflected(outside, length))
    return images


def normalised(kernels: Tensor) -> Tensor:
    """Scale each of the kernels [B, k, k] to sum 1."""
    return torch.stack([kernel / kernel.sum() for kernel in kernels])


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve images [B, C, h, w] with kernels [B, k, k] through the FFT, with reflected borders."""
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
    """Return the offsets from the middle of a k x k kernel: y [k, 1] and x [1, k]."""
    offsets = torch.arange(size, device=device, dtype=torch.float32) - size // 2
    return offsets[:, None], offsets[None, :]


def to_grid(images: Tensor, origin: Tensor, period: int, margin: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Place crops on the grid of period x period cells of the full image; missing pixels are reflected.

    Return [B, C, h', w'], with h' and w' multiples of the period and the first row and column on a grid line, and the
    rows [B, h] and columns [B, w] of the crop in it, for `gathered`. `margin` adds pixels around the crop.
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
    """Select rows [B, h'] and columns [B, w'] of [B, C, h, w]: [B, C, h', w']."""
    batch, channels, _, width = images.shape
    tall = images.gather(2, rows[:, None, :, None].expand(batch, channels, rows.shape[1], width))
    return tall.gather(3, columns[:, None, None, :].expand(batch, channels, rows.shape[1], columns.shape[1]))
