"""Rows turned towards each other where their similarity falls below its running target."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.registry import register

from ..shared.gramian import RANK_CUTOFF, Array, GramianSurgery, norms

HIGHEST_TARGET = 0.99
"""Upper bound of the target similarity. Towards 1 the added weight has no bound (measured: ||v|| about 5e5)."""


@register
class Gradvac(GramianSurgery):
    """GradVac (Wang, Tsvetkov, Firat and Cao, ICLR 2021, arXiv 2010.05874, Algorithm 1 and Equation 3).

    This is PCGrad with a running target similarity per ordered pair in place of 0. Targets are stored by the names of
    the pair (state `targets`), and the order is keyed by (step, row names). Departures: targets are clamped to [-1,
    .99], and the update is the mean of the turned rows, not their sum.
    """

    beta: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the newest similarity in the running target (the paper's text has .01)."""
    initial: float = Field(default=0.0, ge=-1.0, le=HIGHEST_TARGET)
    """Target of a pair not seen before."""

    def solve(self, gramian: Array, context: StepContext) -> Array:
        n, _ = norms(gramian)
        total = np.zeros(len(n))
        for i in range(len(n)):
            total += self._vaccinated(i, gramian, n.tolist(), context)
        return total / len(n)

    def _vaccinated(self, i: int, gramian: Array, n: list[float], context: StepContext) -> Array:
        """Return c [K] for which c @ J is row i after its turns."""
        names = context.rows
        targets = self.state.setdefault("targets", {}).setdefault(names[i], {})
        c = np.zeros(len(n))
        c[i] = 1.0
        products = gramian[i].copy()  # G c
        squares = gramian.diagonal()
        for j in context.keyed_order(names, f"gradvac {names[i]}"):
            if j == i or n[j] == 0.0:
                continue
            size_squared = float(c @ products)  # ||c @ J||^2
            if size_squared <= RANK_CUTOFF * float((c * c) @ squares):  # row i has vanished
                break
            size = math.sqrt(size_squared)
            similarity = min(1.0, max(-1.0, float(products[j]) / (size * n[j])))
            target = targets.get(names[j], self.initial)
            if similarity < target:
                step = size / n[j] * turn(similarity, target)
                c[j] += step
                products += step * gramian[j]
            moved = target + self.beta * (similarity - target)
            targets[names[j]] = min(HIGHEST_TARGET, max(-1.0, moved))
        return c


def turn(similarity: float, target: float) -> float:
    """Return how much of unit row j raises a unit row's cosine with it from `similarity` to `target` (Equation 3)."""
    across = math.sqrt(1.0 - target * target)
    return (target * math.sqrt(1.0 - similarity * similarity) - similarity * across) / across
