"""Motion blur."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from cmtl_ir.base.errors import brief
from cmtl_ir.base.keyed import integers, substream, uniform
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._filters import convolve, grid_of, normalised
from cmtl_ir.tasks.degradations._graded import Graded, drawn
from cmtl_ir.tasks.degradations._limits import Range, within
from cmtl_ir.tasks.images.decode import DataError

A_KERNEL_FILE = "a .npy array [N, k, k] or a .mat file of kernels"
STEPS = 64
"""Number of points of a trajectory."""


@register
class MotionBlur(Graded):
    """Camera shake: convolution with a random smooth trajectory (after KAIR's `blurkernel_synthesis` and deepinv's
    Gaussian-process trajectories; simplified to constant speed and a heading that is a sum of three waves).

    The centre of mass of the kernel is at its middle, so nothing is displaced. Borders are reflected.
    """

    severities: ClassVar = {"length": ((6, 6), (11, 11), (16, 16), (23, 23), (31, 31))}

    length: Annotated[Range, within(0, 255)] = (9.0, 31.0)
    """Length of the trajectory in pixels (GoPro-like; KAIR's kernels are 37 px wide)."""
    bend: Annotated[Range, within(0, 10)] = (0.0, 1.5)
    """Amplitude of the change of heading in radians; 0 is a straight line (ours)."""
    kernels: str | None = None
    """A .npy array [N, k, k] or a .mat file (array or cells, as in Levin et al.) to draw from. null: trajectories."""

    def prepare(self) -> None:
        if self.kernels is not None:
            stored_kernels(self.kernels)

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        if self.kernels is not None:
            known = stored_kernels(self.kernels).to(keys.device)
            return {"kernel": known[integers(substream(keys, "which"), 0, len(known))]}
        length, bend = drawn(keys, "length", self.length), drawn(keys, "bend", self.bend)
        kernel = kernels_of(*trajectories(substream(keys, "path"), length, bend), 2 * math.ceil(self.length[1] / 2) + 3)
        return {"length": length, "bend": bend, "kernel": kernel}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        return convolve(clean, parameters["kernel"]).clamp_(0, 1)


def trajectories(keys: Tensor, length: Tensor, bend: Tensor) -> tuple[Tensor, Tensor]:
    """Draw trajectories: y and x [B, STEPS] in pixels from the centre of mass, at most length / 2 away.

    Steps are whole multiples of 2^-16 pixels. Their sums are exact, so they do not depend on the batch or the device.
    """
    time = (torch.arange(STEPS, device=keys.device) + 0.5) / STEPS
    heading = (uniform(substream(keys, "heading")) * (2 * math.pi))[:, None].repeat(1, STEPS)
    for wave in (1, 2, 3):
        phase = uniform(substream(keys, wave))[:, None]
        heading += torch.sin((time * (wave * 0.75) + phase) * (2 * math.pi)) * (bend[:, None] / wave)
    step = (length * (2**16 / STEPS))[:, None]
    path = (torch.stack([heading.sin(), heading.cos()]) * step).round().long().cumsum(2)  # [2, B, STEPS]
    y, x = (path * STEPS - path.sum(2, keepdim=True)).float() / (STEPS * 2**16)
    return y, x


def kernels_of(y: Tensor, x: Tensor, size: int) -> Tensor:
    """Convert trajectories [B, STEPS] to kernels [B, size, size]; each point is spread over four pixels."""
    down, right = grid_of(size, y.device)
    kernels = []
    for path_y, path_x in zip(y, x, strict=True):
        rows = (1 - (down - path_y).abs()).clamp(min=0)  # [size, STEPS]
        columns = (1 - (right.T - path_x).abs()).clamp(min=0)
        kernels.append((rows[:, None, :] * columns[None, :, :]).sum(2))
    return normalised(torch.stack(kernels))


def _kernels_in(file: Path) -> np.ndarray:
    """Read the array of a .npy file, or the first array of a .mat file: [N, k, k], or cells of kernels."""
    if file.suffix == ".mat":
        found = next(value for name, value in loadmat(file).items() if not name.startswith("__"))
    else:
        found = np.load(file)
    return found.ravel() if found.dtype == object else found


@cache
def stored_kernels(path: str) -> Tensor:
    """Read kernels [N, k, k] with odd k and sum 1. Smaller kernels are centred in the largest. Raise DataError."""
    try:
        kernels = [np.asarray(kernel, dtype=np.float32) for kernel in _kernels_in(Path(os.path.expanduser(path)))]
    except (OSError, ValueError, TypeError, NotImplementedError, StopIteration) as error:
        raise DataError(f"motion_blur.kernels: {path}: {brief(error)}; name {A_KERNEL_FILE}") from error
    sums = [float(kernel.sum()) if kernel.ndim == 2 and kernel.min(initial=0) >= 0 else 0.0 for kernel in kernels]
    if not sums or not all(0 < one < math.inf for one in sums):
        raise DataError(f"motion_blur.kernels: {path}: expected kernels [k, k] >= 0 of sum > 0; name {A_KERNEL_FILE}")
    side = max(max(kernel.shape) for kernel in kernels) // 2 * 2 + 1
    stacked = np.zeros((len(kernels), side, side), dtype=np.float32)
    for place, kernel in zip(stacked, kernels, strict=True):
        top, left = ((side - length) // 2 for length in kernel.shape)
        place[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel
    return normalised(torch.from_numpy(stacked))
