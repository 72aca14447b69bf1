"""One sign drawn per coordinate, with the entries of the opposite sign dropped."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Cost, Surgery, Tier
from cmtl_ir.strategy.registry import register

CHUNK = 1 << 15
"""Number of coordinates processed at a time. The draws of a chunk are keyed by its number, so this is part of the
method."""


@register
class Graddrop(Surgery):
    """GradDrop (Chen et al., NeurIPS 2020, arXiv 2010.06808, Algorithm 1).

    Positive values survive where P > U, negative ones where P < U, with P = (1 + sum g / sum |g|) / 2 and U uniform.
    The expectation is exactly the mean of the rows. The mask applies to the gradients of the weights, where the paper
    masks those of a shared activation. Departure: the update is the mean of the masked rows, not their sum.
    """

    needs: ClassVar[Tier] = "rows"
    cost: ClassVar[Cost] = Cost(backward_passes="1, split by row", memory="[M, P] row gradients, twice")

    leak: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of each row that passes regardless of its sign."""

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """Return the weights v [M] of the mean. The draws are made in `combine`."""
        return torch.full((len(gramian),), 1.0 / len(gramian), dtype=torch.float64)

    def combine(self, rows: Tensor, weights: Tensor, context: StepContext) -> Tensor:
        keys = torch.tensor([context.key("graddrop")], device=rows.device)
        pieces = []
        for number, g in enumerate(rows.split(CHUNK, dim=1)):  # [M, chunk]
            drawn = keyed.uniform(keyed.substream(keys, number), g.shape[1:])[0]  # U [chunk]
            total, size = g.sum(dim=0), g.abs().sum(dim=0)  # [chunk]
            purity = 0.5 * (1.0 + torch.nan_to_num(total / size, nan=0.0))  # P [chunk]
            survivors = 0.5 * torch.where(purity > drawn, total + size, total - size)  # sum of one sign's values
            pieces.append(torch.lerp(survivors, total, self.leak) / len(rows))
        return torch.cat(pieces)
