"""Every row gives up what hurts the others, as little as possible."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery, project_on_dual_cone


@register
class Upgrad(GramianSurgery):
    """UPGrad (Quinton and Rey, 2024, arXiv 2406.16232, Definition 1).

    The mean of the rows, each projected on the cone of directions that hurt no row. PCGrad's intent kept for any
    number of rows (for two they agree). TorchJD adds a ridge before it solves; none here, because a ridge breaks
    the promise that no row rises.
    """

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """G [K, K] -> v [K]."""
        return project_on_dual_cone(gramian, np.eye(len(gramian))).mean(axis=0)
