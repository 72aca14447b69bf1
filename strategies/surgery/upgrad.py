"""Mean of the rows, each projected on the directions that hurt no row."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery, project_on_dual_cone


@register
class Upgrad(GramianSurgery):
    """UPGrad (Quinton and Rey, 2024, arXiv 2406.16232, Definition 1).

    The update is the mean of the rows, each projected on the cone of directions that hurt no row. It extends PCGrad's
    intent to any number of rows, and for two rows the methods agree. TorchJD adds a ridge before it solves. There is
    none here, because a ridge breaks the guarantee that the loss of no row rises.
    """

    def solve(self, gramian: Array, context: StepContext) -> Array:
        return project_on_dual_cone(gramian, np.eye(len(gramian))).mean(axis=0)
