"""Structural similarity, with the window of the protocol.

Everything runs on the device of the tensors, in float64 (float32 on MPS, which has no float64).
Shapes: B images, C channels (3, or 1 for luma), H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.measures.metric import Metric
from cmtl_ir.measures.protocol import Protocol
from cmtl_ir.measures.scale import SSIM
from cmtl_ir.strategy.registry import register


@register
class Ssim(Metric):
    """Mean structural similarity per image (Wang et al., IEEE TIP 2004, eq. 13)."""

    scale = SSIM

    def smallest(self, protocol: Protocol) -> int:
        """Return the side of the window."""
        return _WINDOWS[protocol.ssim][0]

    def score(self, restored: Tensor, clean: Tensor, protocol: Protocol) -> Tensor:
        """Return the similarity per image, [B]."""
        x, y = restored, clean
        size, smooth = _WINDOWS[protocol.ssim]
        mean_x, mean_y, xx, yy, xy = smooth(torch.stack([x, y, x * x, y * y, x * y]))  # each [B, C, H', W']
        # scikit-image's default divides by N - 1, all others by N
        unbiased = size**2 / (size**2 - 1) if protocol.ssim == "uniform7" else 1.0
        variances = unbiased * (xx - mean_x**2 + yy - mean_y**2)
        covariance = unbiased * (xy - mean_x * mean_y)
        c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        return (luminance * (2 * covariance + c2) / (variances + c2)).flatten(1).mean(1)


ssim = Ssim()


# --- windows: [5, B, C, H, W] -> local means, [5, B, C, H', W'] -----------------------------------------------------


_UNIFORM = [1 / 7] * 7
_GAUSSIAN = torch.softmax(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2), 0).tolist()  # sums to 1


def _slide(moments: Tensor, weights: list[float]) -> Tensor:
    """Compute shifted sums, rows then columns. conv2d in float64 is 10 times slower on a CPU at 720 x 1280."""
    for axis in (-2, -1):
        length = moments.shape[axis] - len(weights) + 1
        smoothed = moments.narrow(axis, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            smoothed.add_(moments.narrow(axis, shift, length), alpha=weight)
        moments = smoothed
    return moments


def _gaussian11_3d(moments: Tensor) -> Tensor:
    """Apply NAFNet's window, which also covers the channels. Edges are replicated, so nothing is cut."""
    channels = moments.shape[2]
    reached = (torch.arange(channels)[:, None] + torch.arange(-5, 6)).clamp(0, channels - 1)  # [C, 11]
    weights = torch.tensor(_GAUSSIAN, dtype=moments.dtype).expand(channels, 11)
    mixing = moments.new_zeros(channels, channels, device="cpu").scatter_add_(1, reached, weights).to(moments.device)
    mixed = torch.einsum("sbdhw,cd->sbchw", moments, mixing)
    padded = F.pad(mixed.flatten(0, 1), (5, 5, 5, 5), mode="replicate")
    return _slide(padded.unflatten(0, moments.shape[:2]), _GAUSSIAN)


_WINDOWS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "uniform7": (7, partial(_slide, weights=_UNIFORM)),
    "gaussian11": (11, partial(_slide, weights=_GAUSSIAN)),
    "gaussian11_3d": (11, _gaussian11_3d),
}
