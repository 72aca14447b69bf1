"""Stein's unbiased risk estimate, with a divergence by Monte Carlo. Shapes: B samples of C x H x W pixels."""

from __future__ import annotations

import torch
from torch import Tensor

CLIPPED = 3.0
"""Standard deviations from 0 and 1 within which a pixel may have been clipped."""


def risk(
    noisy: Tensor, answer: Tensor, probed: Tensor, probe: Tensor, sigma: Tensor, epsilon: Tensor, inside: Tensor
) -> Tensor:
    """Return SURE [B], the mean over the pixels of each image where `inside` is true; 0 where none is.

    R = |f(y) - y|^2 / P - sigma^2 + (2 sigma^2 / P) b^T (f(y + eps b) - f(y)) / eps (Stein, Annals of Statistics 1981;
    divergence of Ramani, Blu and Unser, IEEE TIP 2008). `answer` is f(y) for `noisy` y, `probed` is f(y + eps b) for
    `probe` b, [B, C, H, W] each; `sigma` and `epsilon` are [B].
    """
    sigma, epsilon = (one.view(-1, 1, 1, 1) for one in (sigma, epsilon))
    divergence = probe * (probed - answer) / epsilon
    terms = (answer - noisy).square() + 2 * sigma**2 * divergence - sigma**2
    return torch.where(inside, terms, torch.zeros_like(terms)).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)


def unclipped(images: Tensor, sigma: Tensor) -> Tensor:
    """Return [B, C, H, W] whether a pixel is at least 3 standard deviations [B] away from 0 and 1."""
    margin = CLIPPED * sigma.view(-1, 1, 1, 1)
    return (images > margin) & (images < 1 - margin)


def noise_levels(images: Tensor) -> Tensor:
    """Return the standard deviation [B] of the noise of images: that of their diagonal Haar details, by the median.

    Source: Donoho and Johnstone, Biometrika 1994.
    """
    height, width = (side // 2 * 2 for side in images.shape[2:])
    a, b = images[:, :, 0:height:2, 0:width:2], images[:, :, 0:height:2, 1:width:2]
    c, d = images[:, :, 1:height:2, 0:width:2], images[:, :, 1:height:2, 1:width:2]
    return ((a - b - c + d) / 2).abs().flatten(1).median(1).values / 0.6745
