"""The direction in which all losses fall together, if there is one."""

from __future__ import annotations

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery, min_norm_point, rows_as_columns


@register
class Mgda(GramianSurgery):
    """MGDA (Désidéri, C. R. Acad. Sci. 2012, Definition 2.2; Sener and Koltun, NeurIPS 2018, Problem 3).

    The update is the smallest vector in the convex hull of the rows, so every row improves by at least ||d||^2. It is
    solved exactly. The Frank-Wolfe loop of the 2018 code leaves 5e-4 after 250 iterations. A zero row takes all the
    weight, because its task is already stationary. With linearly dependent rows v is not unique, but the update is.
    """

    def solve(self, gramian: Array, context: StepContext) -> Array:
        return min_norm_point(rows_as_columns(gramian))
