"""Row weights under which the rows' rates of progress are alpha-fair."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery, cosines, factor, min_norm_point, norms

STATIONARY = 1e-5
"""Squared distance of 0 from the hull of the unit rows below which there is no usable solution."""
RIDGE = 1e-8
"""Added to the diagonal of the cosine matrix in that case."""


@register
class Fairgrad(GramianSurgery):
    """FairGrad (Ban and Ji, ICML 2024, arXiv 2402.15638, Equation 4): G w = w^(-1/alpha).

    It is solved for G / trace G, so K equal rows give their mean (v = w / K) and nothing depends on scale. The authors
    use least squares. Here Newton's method runs on unit rows, because z = n w is the minimum of a convex function. If 0
    is (nearly) in the hull of the rows, there is no solution. The cosine matrix then gets a ridge of 1e-8, counted in
    state `guarded`, and the absence of conflict is not claimed.
    """

    alpha: float = Field(default=1.0, gt=0.0)
    """1: proportional fairness (Nash-MTL); towards 0: the plain mean; large: max-min."""

    @property
    def keeps_direction(self) -> bool:
        """True at alpha 1, which is Nash-MTL."""
        return self.alpha == 1.0

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """Return v [K] for G [K, K]. Zero rows get 1/K."""
        v, ridged = alpha_fair(gramian, self.alpha)
        if ridged:
            self.count_guard()
        return v


def alpha_fair(gramian: Array, alpha: float) -> tuple[Array, bool]:
    """Return v [K] = w / K with G w = w^(-1/alpha) over the nonzero rows, and whether a ridge was needed."""
    live = np.diagonal(gramian) > 0.0
    unit_rows = cosines(gramian[live][:, live])
    n, inverse = norms(gramian)
    nearest = min_norm_point(factor(unit_rows))
    stationary = bool(nearest @ unit_rows @ nearest < STATIONARY)
    if stationary:
        unit_rows = unit_rows + RIDGE * np.eye(len(unit_rows))
    w = np.ones(len(n))
    w[live] = newton(unit_rows, n[live], alpha) * inverse[live]
    return w / len(n), stationary


def newton(cosine: Array, n: Array, alpha: float) -> Array:
    """Return z [K] > 0 with C z = a z^(-1/alpha), a = n^(1/alpha - 1): the minimum of z C z / 2 + sum phi(z).

    phi = -a log z, or -a z^(1 - 1/alpha) / (1 - 1/alpha). The iteration starts from the solution for orthogonal rows.
    """
    power = 1.0 / alpha
    a = n ** (power - 1.0)

    def height(z: Array) -> float:
        phi = -a * np.log(z) if power == 1.0 else -a * z ** (1.0 - power) / (1.0 - power)
        return float(0.5 * z @ cosine @ z + phi.sum())

    z = n ** ((1.0 - alpha) / (1.0 + alpha))
    last = np.inf
    for _ in range(200):
        pull = a * z**-power
        gradient = cosine @ z - pull
        step = -np.linalg.solve(cosine + np.diag(power * pull / z), gradient)
        change = float(np.abs(step / z).max())
        if change < 1e-14 or (last < 1e-4 and change >= 0.5 * last):  # quadratic convergence has reached rounding error
            break
        last = change
        slope, scale = float(gradient @ step), float(pull @ z)
        t = min(1.0, 0.95 / max(float(np.max(-step / z)), 0.95))
        while -slope > 1e-8 * scale and height(z + t * step) > height(z) + 0.1 * t * slope:
            t *= 0.5
        z = z + t * step
    return z
