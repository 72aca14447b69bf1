"""Generalised Gaussians: density beta / (2 alpha Gamma(1 / beta)) exp(-(|x| / alpha)^beta), fitted by moments.

There are two numbers per degradation, the scale alpha and the shape beta (2: Gaussian, 1: Laplace). Legend: S fits at
once, n values each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALLEST, LARGEST = 0.2, 10.0
"""Range of beta. At its ends a fit is saturated."""
TRIM = 5.0
"""Values this many standard deviations from the mean are left out, as in the authors' measure."""


@dataclass(frozen=True)
class GGD:
    """Scale and shape, as one pair or as arrays [S]."""

    alpha: Array
    beta: Array

    @property
    def sigma(self) -> Array:
        """Standard deviation."""
        from scipy.special import gammaln

        return self.alpha * np.exp((gammaln(3 / self.beta) - gammaln(1 / self.beta)) / 2)

    @property
    def saturated(self) -> bool:
        """True if a shape is at an end of its range, so that the fit says little."""
        return bool(((self.beta <= SMALLEST + 1e-6) | (self.beta >= LARGEST - 1e-6)).any())


def of_sigma(sigma: Array, beta: Array) -> GGD:
    """Return the distribution with this standard deviation and shape."""
    from scipy.special import gammaln

    alpha = sigma * np.exp((gammaln(1 / beta) - gammaln(3 / beta)) / 2)
    return GGD(np.maximum(alpha, np.finfo(np.float64).tiny), beta)


@cache
def _table() -> tuple[Array, Array]:
    """Return r = Gamma(1/b) Gamma(3/b) / Gamma(2/b)^2, ascending, and the beta of each r."""
    from scipy.special import gammaln

    beta = np.linspace(SMALLEST, LARGEST, 40_001)
    ratio = np.exp(gammaln(1 / beta) + gammaln(3 / beta) - 2 * gammaln(2 / beta))
    return ratio[::-1], beta[::-1]


def fit(values: Array, trim: float | None = TRIM) -> GGD:
    """Return the moment fit, alpha and beta [...], over the last axis of values [..., n].

    sigma^2 = mean v^2, r = sigma^2 / mean(|v - mean|)^2, beta = argmin |r - Gamma(1/b) Gamma(3/b) / Gamma(2/b)^2| on
    [.2, 10), alpha = sigma sqrt(Gamma(1/beta) / Gamma(3/beta)), as in the authors' code (Liu et al., SRGA, TPAMI 2023).
    The trim biases heavy tails: (alpha, beta) is recovered only for beta >= 1.5, or with `trim=None`, which leaves no
    value out.
    """
    values = np.asarray(values, dtype=np.float64)
    kept = np.ones_like(values)
    centre = values.mean(-1, keepdims=True)
    if trim is not None:
        kept = (np.abs(values - centre) < trim * values.std(-1, keepdims=True)).astype(np.float64)
    count = np.maximum(kept.sum(-1), 1.0)
    centre = (kept * values).sum(-1, keepdims=True) / count[..., None]
    square = (kept * values**2).sum(-1) / count
    spread = (kept * np.abs(values - centre)).sum(-1) / count
    tiny = np.finfo(np.float64).tiny
    ratio, shape = _table()
    beta = np.interp(square / np.maximum(spread**2, tiny), ratio, shape)
    return of_sigma(np.sqrt(square), beta)


def divergence(p: GGD, q: GGD) -> Array:
    """Return KL(p || q) in closed form, elementwise [...]."""
    from scipy.special import gammaln

    scale = np.log(p.beta) + np.log(q.alpha) + gammaln(1 / q.beta)
    scale = scale - np.log(q.beta) - np.log(p.alpha) - gammaln(1 / p.beta)
    power = q.beta * (np.log(p.alpha) - np.log(q.alpha)) + gammaln((q.beta + 1) / p.beta) - gammaln(1 / p.beta)
    return scale + np.exp(power) - 1 / p.beta


def distance(p: GGD, q: GGD) -> float:
    """Return (KL(p || q) + KL(q || p)) / 2, or its mean if p and q are arrays."""
    return float(np.mean((divergence(p, q) + divergence(q, p)) / 2))
