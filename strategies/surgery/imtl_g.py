"""A direction with the same projection on every row."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import RANK_CUTOFF, Array, GramianSurgery, norms, pseudo_inverse


@register
class ImtlG(GramianSurgery):
    """IMTL-G (Liu et al., ICLR 2021, Equation 7, in the pseudo-inverse form of arXiv 2406.16232).

    The weights have sum 1, and the update makes equal angles with all rows (rows of full rank). Departure: where the
    weights nearly cancel (|sum| against the sum of absolute values, `cancellation`), the published form explodes, or it
    reverses and ascends every task. There the mean is taken, and counted in state `guarded`.
    """

    cancellation: float = 0.01
    """Largest sum of the raw weights, as a share of the sum of their absolute values, at which the mean is taken."""

    @property
    def keeps_direction(self) -> bool:
        """True, because the directions of the rows alone decide the update's direction."""
        return True

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """Return v [K] for G [K, K]. Zero rows get 0."""
        n, _ = norms(gramian)
        q = pseudo_inverse(gramian) @ n
        reach = n @ q  # 0 if every direction treats some rows oppositely; q is then rounding error
        if reach < RANK_CUTOFF or q.sum() <= self.cancellation * np.abs(q).sum():
            self.count_guard()
            return np.full(len(n), 1.0 / len(n))
        return q / q.sum()
