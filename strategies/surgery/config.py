"""A direction with the same angle to every row, whose length follows the rows' projections on it."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import RANK_CUTOFF, Array, GramianSurgery, cosines, norms, pseudo_inverse


@register
class Config(GramianSurgery):
    """ConFIG (Liu, Chu and Thuerey, ICLR 2025, arXiv 2408.11104, Equation 2).

    The direction is parallel to IMTL-G at full rank. The length follows the rows' projections, so it shrinks as the
    rows conflict. Departure: the length is the mean of the projections, not their sum. Rows that are exactly opposite
    have no such direction and give the mean, counted in state `guarded`.
    """

    @property
    def keeps_direction(self) -> bool:
        """True, because the directions of the rows alone decide the update's direction."""
        return True

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """Return v [K] for G [K, K]. Zero rows get 0."""
        _, inverse = norms(gramian)
        on_units = pseudo_inverse(cosines(gramian)).sum(axis=1)  # C^+ 1
        length_squared = on_units.sum()  # ||d0||^2 of the direction d0 = q @ J
        if length_squared < RANK_CUTOFF:
            self.count_guard()
            return np.full(len(gramian), 1.0 / len(gramian))
        q = on_units * inverse
        return np.mean(gramian @ q) / length_squared * q
