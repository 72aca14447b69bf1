"""Mathematics shared by the surgery methods. Everything is a function of the rows' inner products.

Legend: K rows g_k of norm n_k. J [K, P] stacks the rows, G = J J^T [K, K] is their Gramian, and C [K, K] holds their
cosines. Zero rows have 1/n = 0 and C = 0, so they drop out of every formula on unit rows. Everything is float64 numpy,
because the matrices are tiny.
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Cost, Surgery

Array: TypeAlias = NDArray[np.float64]

RANK_CUTOFF = 1e-12
"""Eigenvalues below this share of the largest count as zero."""
ROW_GRADIENTS = Cost(backward_passes="1, split by row", memory="[M, P] row gradients")


class GramianSurgery(Surgery):
    """A surgery that depends on G / trace G alone, so it is invariant to the scale of the gradients."""

    cost: ClassVar[Cost] = ROW_GRADIENTS

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """Return the row weights v [K] for a Gramian [K, K]. A Gramian of zeros gives the mean."""
        trace = float(gramian.trace())
        if trace <= 0.0:
            return torch.full((len(gramian),), 1.0 / len(gramian), dtype=torch.float64)
        return torch.from_numpy(self.solve((gramian / trace).numpy(), context))

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """Return the row weights v [K], in mean convention, for a Gramian G [K, K] of trace 1."""
        raise TypeError(f"{type(self).__name__} does not implement `solve`")

    def count_guard(self) -> None:
        """Count a step in which the published rule has no usable solution (state `guarded`)."""
        self.state["guarded"] = self.state.get("guarded", 0) + 1


# ------------------------------------------------------------------------------------------------ unit rows


def norms(gramian: Array) -> tuple[Array, Array]:
    """Return n [K] and 1/n [K], where 1/n is 0 for zero rows."""
    n = np.sqrt(np.diagonal(gramian).clip(min=0.0))
    return n, np.divide(1.0, n, out=np.zeros_like(n), where=n > 0)


def cosines(gramian: Array) -> Array:
    """Return the cosines C [K, K], the Gramian of the unit rows."""
    _, inverse = norms(gramian)
    return gramian * inverse[:, None] * inverse


def pseudo_inverse(gramian: Array) -> Array:
    """Return the pseudo-inverse G^+ [K, K]."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > RANK_CUTOFF * values[-1]
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def factor(gramian: Array) -> Array:
    """Return L [R, K] with G = L^T L. Column k represents row k in R (rank) dimensions instead of P."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > RANK_CUTOFF * values[-1]  # otherwise exactly opposite rows get weights of 1e14
    return np.sqrt(values[kept])[:, None] * vectors[:, kept].T


def rows_as_columns(gramian: Array) -> Array:
    """Return the rows as columns [R, K], with their lengths and angles, in R dimensions instead of P.

    Zero rows are exactly zero.
    """
    n, _ = norms(gramian)
    return factor(cosines(gramian)) * n


# ------------------------------------------------------------------------------- two quadratic programmes


def nnls(matrix: Array, target: Array) -> Array:
    """Return argmin_{y >= 0} ||matrix y - target|| (Lawson and Hanson 1974) for a matrix [R, K]."""
    from scipy.optimize import nnls as lawson_hanson

    return lawson_hanson(matrix, target, maxiter=100 * matrix.shape[1])[0]


def min_norm_point(points: Array) -> Array:
    """Return the weights w [K] >= 0, of sum 1, of the point nearest to 0 in the convex hull of the columns [R, K].

    The minimiser of ||L y||^2 + (s sum(y / n) - 1)^2 over y >= 0, with L the unit columns, is on the ray through w = y
    / n for any s. The choice s = min n keeps the columns at similar sizes.
    """
    n = np.sqrt((points * points).sum(axis=0))
    zero = n == 0.0
    if zero.any():
        return zero / zero.sum()
    y = nnls(np.vstack([points, np.full(len(n), n.min())]) / n, np.eye(len(points) + 1)[-1])
    return y / n / (y / n).sum()


def project_on_dual_cone(gramian: Array, targets: Array) -> Array:
    """Return v [R, K] such that v_r @ J is the point nearest to u_r @ J without a negative product with any row.

    The targets u are [R, K]. By duality v = u + y / n with y = argmin_{y >= 0} ||L (n u + y)|| on unit rows. No ridge
    is added, because it would break J d >= 0.
    """
    n, inverse = norms(gramian)
    root = factor(cosines(gramian)) * (n > 0)  # a zero row's column is exactly zero, not 1e-17
    return targets + np.stack([nnls(root, -root @ (n * u)) for u in targets]) * inverse
