"""What the objectives share that classify the degradation. Shapes: B samples, D places, T classes."""

from __future__ import annotations

from torch import Tensor, nn

from cmtl_ir.strategy.objective import pooled


class Pooled(nn.Module):
    """Mean of a latent over positions: [B, C, h, w] or [B, N, C] -> [B, C]."""

    def forward(self, latent: Tensor) -> Tensor:
        return pooled(latent)


def smoothed_cross_entropy(logarithms: Tensor, task: Tensor, smoothing: float) -> Tensor:
    """Return the cross-entropy [B] of log-probabilities [B, D, T] and tasks [B], added over the places.

    The true class counts 1 - smoothing, each of the other classes smoothing / (T - 1).
    """
    true = logarithms.take_along_dim(task[:, None, None], 2)[:, :, 0]
    others = (logarithms.sum(2) - true) / max(logarithms.shape[2] - 1, 1)
    return -((1 - smoothing) * true + smoothing * others).sum(1)
