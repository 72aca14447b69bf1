"""A direction with the same projection on every row."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import RANK_CUTOFF, Array, GramianSurgery, norms, pseudo_inverse


@register
class ImtlG(GramianSurgery):
    """IMTL-G (Liu et al., ICLR 2021, Equation 7, in the pseudo-inverse form of arXiv 2406.16232).

    Weights of sum 1 under which the update makes equal angles with all rows (rows of full rank). Departure: where
    the weights all but cancel (|sum| against sum of absolutes, `cancellation`) the published form explodes or turns
    round and ascends every task; there the mean is taken, and counted in state `guarded`.
    """

    cancellation: float = 0.01
    """Sum of the raw weights, as a share of the sum of their absolutes, at or below which the mean is taken."""

    @property
    def keeps_direction(self) -> bool:
        """Yes: the directions of the rows decide."""
        return True

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """G [K, K] -> v [K]; zero rows get 0."""
        n, _ = norms(gramian)
        q = pseudo_inverse(gramian) @ n
        reach = n @ q  # 0 where every direction treats some rows oppositely: q is then rounding
        if reach < RANK_CUTOFF or q.sum() <= self.cancellation * np.abs(q).sum():
            self.count_guard()
            return np.full(len(n), 1.0 / len(n))
        return q / q.sum()
