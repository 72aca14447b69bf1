"""Rows made orthogonal and equally long with as little rotation as possible."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import RANK_CUTOFF, Array, GramianSurgery


@register
class AlignedMtl(GramianSurgery):
    """Aligned-MTL (Senushkin et al., CVPR 2023, Algorithm 1).

    The aligned rows' Gramian is lambda_min times a projector, so its condition number is 1. The update is the mean of
    the aligned rows, where the authors take their sum. It is discontinuous: near-duplicate rows shrink the update (two
    rows 10 / 1 / .01 % apart: to about .05 / .005 / 5e-5 of the mean). Exact duplicates do not, because their null
    direction is cut off.
    """

    scale_mode: Literal["min", "median", "rmse"] = "min"
    """Common length of the aligned rows, squared: the smallest, median or mean eigenvalue of the Gramian."""

    def solve(self, gramian: Array, context: StepContext) -> Array:
        return balance(gramian, self.scale_mode).mean(axis=1)


def balance(gramian: Array, scale_mode: str) -> Array:
    """Return the symmetric matrix B [K, K] for which B @ J are the aligned rows."""
    values, vectors = np.linalg.eigh(gramian)
    kept = values > RANK_CUTOFF * values[-1]
    values, vectors = values[kept], vectors[:, kept]  # [R] ascending, [K, R]
    common = {"min": values[0], "median": values[(len(values) - 1) // 2], "rmse": values.mean()}[scale_mode]
    return (vectors * np.sqrt(common / values)) @ vectors.T
