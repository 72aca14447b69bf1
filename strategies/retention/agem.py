"""Projection of the update so that it does not raise the mean loss on the memory."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Learner, Row, Stage, StepContext
from cmtl_ir.strategy.parts import Cost, Tier
from cmtl_ir.strategy.registry import register

from ._memory import Remembering


@register
class AGEM(Remembering):
    """Averaged gradient episodic memory (Chaudhry et al., ICLR 2019, Eq. 11): g + max(0, -<g, g_m>) / |g_m|^2 g_m.

    g_m is the mean gradient of the pooled memory batch, which never enters the loss.
    """

    needs: ClassVar[Tier] = "gramian"
    cost: ClassVar[Cost] = Cost(backward_passes="1, split by row", memory="[M, P] row gradients; ids")

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        """Return `memory:TASK` for every old task, for projection only."""
        return self.memory_rows(stage, self.share, 1.0, projected=True)

    def project(self, update: Tensor, memory: Tensor, context: StepContext) -> Tensor:
        counts = torch.tensor(context.counts, dtype=memory.dtype, device=memory.device)
        pooled = (counts / counts.sum()) @ memory
        product, square = torch.dot(update, pooled), torch.dot(pooled, pooled)
        return torch.where((product < 0) & (square > 0), update - product / square * pooled, update)
