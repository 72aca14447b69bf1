"""Several networks of one kind whose outputs are averaged, as exact unlearning by constituents trains them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.output import final_output


class Ensemble(nn.Module):
    """Mean of the members' final outputs, summed in their order. Its members are trained, not the ensemble itself."""

    couples_samples = False
    unused: tuple[str, ...] = ()

    def __init__(self, *, of: dict[str, Any], members: int = 2) -> None:
        super().__init__()
        from cmtl_ir.backbones import build

        self.members = nn.ModuleList(build(**of) for _ in range(members))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the mean restored image, [B, 3, H, W] -> [B, 3, H, W]."""
        return torch.stack([final_output(member, member(x, task)) for member in self.members]).mean(0)
