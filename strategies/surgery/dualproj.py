"""Projection of the mean on the directions that hurt no row."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery, project_on_dual_cone


@register
class Dualproj(GramianSurgery):
    """DualProj (Lopez-Paz and Ranzato, NeurIPS 2017, Equation 11, as named in arXiv 2406.16232).

    This is GEM's projection with the rows of the step in place of its memories: the direction nearest to the mean that
    hurts no row. No ridge is added, unlike in GEM's code (1e-3) and TorchJD (1e-4), because it would break that
    guarantee.
    """

    def solve(self, gramian: Array, context: StepContext) -> Array:
        return project_on_dual_cone(gramian, np.full((1, len(gramian)), 1.0 / len(gramian)))[0]
