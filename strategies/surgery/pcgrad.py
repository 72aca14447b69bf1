"""Gradient surgery: from each row, its projections on the rows it conflicts with are removed."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery


@register
class Pcgrad(GramianSurgery):
    """PCGrad (Yu et al., NeurIPS 2020, arXiv 2001.06782, Algorithm 1).

    The other rows are visited in random order, as in the algorithm. The authors' TensorFlow code never shuffles them.
    The order is keyed by (step, row names). The update is the mean of the projected rows, not their sum, so that the
    learning rate keeps its meaning. With more than two rows a projection may undo an earlier one, so the loss of some
    row may still rise.
    """

    def solve(self, gramian: Array, context: StepContext) -> Array:
        names = context.rows
        total = np.zeros(len(names))
        for i, name in enumerate(names):
            c = np.zeros(len(names))  # the projected row i is c @ J
            c[i] = 1.0
            products = gramian[i].copy()  # G c: its inner products with all rows
            for j in context.keyed_order(names, f"pcgrad {name}"):
                if j != i and products[j] < 0:
                    step = products[j] / gramian[j, j]
                    c[j] -= step
                    products -= step * gramian[j]
            total += c
        return total / len(names)
