"""Shot noise: keyed Poisson counts, and the Poisson-Gaussian model of a sensor."""

from __future__ import annotations

import torch
from torch import Tensor

from cmtl_ir.base.keyed import normal, substream, uniform
from cmtl_ir.tasks.degradations._graded import spread

FEW = 4.0
"""Rate below which counts are exact. Above it, mean, variance and skewness are within about 1 %, as a test checks."""
EXCESS = 1 / 18 + 1 / 12
"""Variance that the second term of the expansion and the rounding add."""


def poisson(keys: Tensor, rates: Tensor) -> Tensor:
    """Draw Poisson counts [B, ...] as float32 with rates [B, ...] >= 0.

    Small rates invert the distribution function. Large rates round the Cornish-Fisher expansion of a normal number.
    """
    shape = rates.shape[1:]
    few = rates.clamp(max=FEW)
    chance = uniform(substream(keys, "few"), shape)
    term = torch.exp(-few)  # of exactly k
    below = term.clone()  # of at most k
    counts = torch.zeros_like(rates)
    for k in range(1, 20):
        counts += chance > below
        term *= few / k
        below += term
    z = normal(substream(keys, "many"), shape)
    many = (rates + (rates - EXCESS).clamp(min=0).sqrt() * z + (z * z - 1) / 6).round_().clamp_(min=0)
    return torch.where(rates < FEW, counts, many)


def sensor_noise(keys: Tensor, clean: Tensor, shot: Tensor, read: Tensor) -> Tensor:
    """Add sensor noise of variance shot^2 x + read^2 to clean [B, 3, h, w]; shot and read are [B]. Not clipped."""
    photons = spread(shot.clamp(min=1e-3).square().reciprocal())  # at white
    counted = poisson(substream(keys, "shot"), clean * photons) / photons
    return counted + normal(substream(keys, "read"), clean.shape[1:]) * spread(read)
