"""The mathematics that surgery methods share: everything is a function of the rows' inner products.

Legend: K rows g_k of norm n_k; J [K, P] stacks them; G = J J^T [K, K]; C = their cosines. Zero rows have 1/n = 0 and
C = 0, so that they drop out of every formula on unit rows. float64 numpy throughout: the matrices are tiny.
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
    """A surgery that is a function of G / trace G alone: the same at any scale of the gradients."""

    cost: ClassVar[Cost] = ROW_GRADIENTS

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """gramian [K, K] -> v [K]; a Gramian of zeros gives the mean."""
        trace = float(gramian.trace())
        if trace <= 0.0:
            return torch.full((len(gramian),), 1.0 / len(gramian), dtype=torch.float64)
        return torch.from_numpy(self.solve((gramian / trace).numpy(), context))

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """G of trace 1 [K, K] -> v [K], in mean convention."""
        raise TypeError(f"{type(self).__name__} does not say how rows are combined")

    def count_guard(self) -> None:
        """Count that the published rule had no usable answer in this step (state `guarded`)."""
        self.state["guarded"] = self.state.get("guarded", 0) + 1


# ------------------------------------------------------------------------------------------------ unit rows


def norms(gramian: Array) -> tuple[Array, Array]:
    """n [K] and 1/n [K], which is 0 for zero rows."""
    n = np.sqrt(np.diagonal(gramian).clip(min=0.0))
    return n, np.divide(1.0, n, out=np.zeros_like(n), where=n > 0)


def cosines(gramian: Array) -> Array:
    """C [K, K]: the Gramian of the unit rows."""
    _, inverse = norms(gramian)
    return gramian * inverse[:, None] * inverse


def pseudo_inverse(gramian: Array) -> Array:
    """G^+ [K, K]."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > RANK_CUTOFF * values[-1]
    return (vectors[:, kept] / values[kept]) @ vectors[:, kept].T


def factor(gramian: Array) -> Array:
    """L [R, K] with G = L^T L: column k stands for row k, in R (rank) dimensions instead of P."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > RANK_CUTOFF * values[-1]  # else exactly opposite rows get weights of 1e14
    return np.sqrt(values[kept])[:, None] * vectors[:, kept].T


def rows_as_columns(gramian: Array) -> Array:
    """[R, K]: column k is row k, length and angles, in R dimensions instead of P; zero rows are exactly zero."""
    n, _ = norms(gramian)
    return factor(cosines(gramian)) * n


# ------------------------------------------------------------------------------- two quadratic programmes


def nnls(matrix: Array, target: Array) -> Array:
    """argmin_{y >= 0} ||matrix y - target|| (Lawson and Hanson 1974), matrix [R, K]."""
    from scipy.optimize import nnls as lawson_hanson

    return lawson_hanson(matrix, target, maxiter=100 * matrix.shape[1])[0]


def min_norm_point(points: Array) -> Array:
    """w [K] >= 0 of sum 1: the point of the convex hull of the columns [R, K] that is nearest to 0.

    min ||L y||^2 + (s sum(y / n) - 1)^2 over y >= 0, L the unit columns, has its minimiser on the ray through
    w = y / n, whatever s; s = min n keeps the columns of like size.
    """
    n = np.sqrt((points * points).sum(axis=0))
    zero = n == 0.0
    if zero.any():
        return zero / zero.sum()
    y = nnls(np.vstack([points, np.full(len(n), n.min())]) / n, np.eye(len(points) + 1)[-1])
    return y / n / (y / n).sum()


def project_on_dual_cone(gramian: Array, targets: Array) -> Array:
    """v [R, K]: v_r @ J is the point nearest to u_r @ J that has no negative product with any row; targets u [R, K].

    By duality v = u + y / n with y = argmin_{y >= 0} ||L (n u + y)|| on unit rows. No ridge: it would break J d >= 0.
    """
    n, inverse = norms(gramian)
    root = factor(cosines(gramian)) * (n > 0)  # a zero row's column is exactly zero, not 1e-17
    return targets + np.stack([nnls(root, -root @ (n * u)) for u in targets]) * inverse
