"""The direction near the mean gradient that helps the worst-off row most."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery, min_norm_point, rows_as_columns

VANISHED = 1e-12
"""Squared length, as a share of trace G, below which a mixture of rows counts as zero."""


@register
class Cagrad(GramianSurgery):
    """CAGrad (Liu et al., NeurIPS 2021, arXiv 2110.14048, Algorithm 1).

    d = g0 + c ||g0|| g_w / ||g_w||, where w minimises g_w . g0 + c ||g0|| ||g_w|| over the simplex. By stationarity w
    is the min-norm point of the rows {g_k + s g0 / ||g0||} with s = ||g_w|| / c. This root is found exactly, where the
    authors stop SLSQP or SGD early. Departures: d is divided by 1 + c (published `rescale: 1` divides by 1 + c^2, which
    turns equal rows into 1.207 times their mean), and the mean itself is taken where g_w or g0 vanishes
    (Pareto-stationary).
    """

    c: float = Field(default=0.4, ge=0.0)
    """Radius of the ball around the mean gradient, in units of its length. 0 gives the mean."""

    def solve(self, gramian: Array, context: StepContext) -> Array:
        rows = rows_as_columns(gramian)  # [R, K]
        mean = np.full(len(gramian), 1.0 / len(gramian))
        length = float(np.linalg.norm(rows @ mean))  # ||g0||
        if self.c == 0.0 or length**2 < VANISHED:
            return mean
        w = self._worst_mixture(rows, rows @ mean / length)
        worst = float(np.linalg.norm(rows @ w))  # ||g_w||
        if worst**2 < VANISHED:
            self.count_guard()
            return mean
        return (mean + self.c * length / worst * w) / (1.0 + self.c)

    def _worst_mixture(self, rows: Array, unit_mean: Array) -> Array:
        """Return w [K] for rows [R, K] and the unit mean gradient [R]."""
        from scipy.optimize import brentq

        def mixture(s: float) -> Array:
            return min_norm_point(rows + s * unit_mean[:, None])

        def excess(s: float) -> float:
            return float(np.linalg.norm(rows @ mixture(s))) - self.c * s

        high = 1.001 * float(np.linalg.norm(rows, axis=0).max()) / self.c  # ||g_w|| <= max n_k
        low = VANISHED**0.5 * high  # a root below it has ||g_w||^2 < VANISHED; s = 0 is a spurious root
        if excess(low) <= 0.0:
            return mixture(low)
        return mixture(brentq(excess, low, high, xtol=1e-14 * high, rtol=1e-12))
