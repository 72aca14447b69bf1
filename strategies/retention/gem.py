"""Projection of the update so that it does not raise the loss on any old task's memory."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.gradients.gramian import gramian
from cmtl_ir.strategy.data import Learner, Row, Stage, StepContext
from cmtl_ir.strategy.parts import Cost, Tier
from cmtl_ir.strategy.registry import register

from ..shared.gramian import Array, cosines, factor, nnls, norms
from ._memory import Remembering


@register
class GEM(Remembering):
    """Gradient episodic memory (Lopez-Paz and Ranzato, NeurIPS 2017, Eq. 11), one constraint per old task.

    If any <g, g_k> < 0, the update is g + sum_k v_k g_k with v = argmin over v >= margin of 1/2 v'G v + v'M g. No ridge
    is added, because the published 1e-3 on the diagonal breaks <update, g_k> >= 0 in 11-47 % of random draws.
    """

    needs: ClassVar[Tier] = "gramian"
    cost: ClassVar[Cost] = Cost(backward_passes="1, split by row", memory="[M, P] row gradients; ids")

    margin: float = Field(0.5, ge=0)
    """The authors' memory strength: smallest weight of every old task's gradient once a constraint is violated."""

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` for every old task, for projection only."""
        return self.memory_rows(stage, self.share, 1.0, projected=True)

    def project(self, update: Tensor, memory: Tensor, context: StepContext) -> Tensor:
        products = gramian(torch.cat([memory, update[None]])).numpy()  # [m + 1, m + 1]
        if not (products[-1, :-1] < 0).any():
            return update
        return update + torch.from_numpy(least_weights(products, self.margin)).to(memory) @ memory


def least_weights(products: Array, margin: float) -> Array:
    """Return v [m] of GEM from the Gramian [m + 1, m + 1] of the memory rows and, last, the update.

    v = margin + y, where y / n minimises |L y + t| over y >= 0 with L the unit rows. This is an NNLS problem, so the
    result is the same at any scale.
    """
    n, inverse = norms(products)
    root = factor(cosines(products))  # [R, m + 1]
    target = root[:, :-1] @ (margin * n[:-1]) + root[:, -1] * n[-1]
    length = float(np.linalg.norm(target))
    if length == 0.0:
        return np.full(len(n) - 1, margin)
    return margin + length * nnls(root[:, :-1], -target / length) * inverse[:-1]
