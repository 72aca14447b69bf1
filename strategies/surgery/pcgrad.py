"""Gradient surgery: each row is projected off the rows that it conflicts with."""

from __future__ import annotations

import numpy as np

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, GramianSurgery


@register
class Pcgrad(GramianSurgery):
    """PCGrad (Yu et al., NeurIPS 2020, arXiv 2001.06782, Algorithm 1).

    The other rows come in random order, as the algorithm says; the authors' TensorFlow code never shuffles them.
    The order is keyed by (step, row names), and the result is the mean of the projected rows, not their sum, so that
    the learning rate keeps its meaning. Beyond two rows a projection may undo an earlier one: some row may still rise.
    """

    def solve(self, gramian: Array, context: StepContext) -> Array:
        """G [K, K] -> v [K]."""
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
