"""Random fields on the pixels of the full image, so that two crops of one image see the same rain and the same haze.

Legend of shapes: B samples, h x w pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmtl_ir.base.keyed import GOLDEN, mix, substream, uniform, uniform_between


def positions(origin: Tensor, axis: int, length: int) -> Tensor:
    """Return pixel numbers in the full image along y (axis 0) or x (axis 1): [B, length] int64."""
    return origin[:, axis, None] + torch.arange(length, device=origin.device)


def lattice(keys: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return 64 random bits per pixel: keys [B], rows [B, h], columns [B, w] -> [B, h, w] int64."""
    of_rows = mix(keys[:, None] + rows * GOLDEN)
    return mix(of_rows[:, :, None] + (columns * GOLDEN)[:, None, :])


def smooth(keys: Tensor, origin: Tensor, size: Tensor, shape: tuple[int, int], waves: int = 4) -> Tensor:
    """Return a mean of `waves` plane cosines, [B, h, w] in [-1, 1], that does not depend on where a crop begins.

    A wave has 0 .. 2 periods over the full image along each axis. cos(a y + b x) is computed from 1-D cosines.
    """
    y, x = ((positions(origin, axis, shape[axis]) + 0.5) / size[:, axis, None] for axis in (0, 1))
    field = torch.zeros(len(keys), *shape, device=keys.device)
    for wave in range(waves):
        key = substream(keys, wave)
        periods = uniform_between(key, -2, 2, (2,))  # [B, 2]
        phase = uniform(substream(key, "phase"))[:, None]
        along_y = (y * periods[:, :1] + phase) * (2 * math.pi)  # [B, h]
        along_x = x * periods[:, 1:] * (2 * math.pi)  # [B, w]
        field += along_y.cos()[:, :, None] * along_x.cos()[:, None, :]
        field -= along_y.sin()[:, :, None] * along_x.sin()[:, None, :]
    return field / waves


def stretched(maps: Tensor, origin: Tensor, size: Tensor, shape: tuple[int, int]) -> Tensor:
    """Stretch maps [B, H, W] over the full images and cut out the crops: [B, h, w]. Bilinear, with edges repeated.

    Lines are blended one after another and not by a sum whose order may vary, so crops see the bits of the full image.
    """
    for axis in (0, 1):
        length = maps.shape[1 + axis]
        place = (positions(origin, axis, shape[axis]) + 0.5) / size[:, axis, None] * length - 0.5  # [B, h] or [B, w]
        place = place.clamp(0, length - 1)
        lower = place.floor()
        share, first = place - lower, lower.long()
        second = (first + 1).clamp(max=length - 1)
        wide = (len(maps), -1, maps.shape[2]) if axis == 0 else (len(maps), maps.shape[1], -1)
        one, other = (maps.gather(1 + axis, line.unsqueeze(2 - axis).expand(wide)) for line in (first, second))
        maps = one + (other - one) * share.unsqueeze(2 - axis)
    return maps


def drops(keys: Tensor, rows: Tensor, columns: Tensor, density: Tensor) -> Tensor:
    """Return sparse random drops [B, h, w] int32: a number 64 .. 255 with probability density [B], else 0."""
    bits = lattice(keys, rows, columns)
    threshold = (density.double() * 2**24).long() - 2**23  # of the upper 24 bits, signed
    brightness = (bits & 255).clamp_(min=64).to(torch.int32)
    return brightness * ((bits >> 40) < threshold[:, None, None])
