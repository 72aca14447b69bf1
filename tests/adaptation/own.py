"""An adapter of a user's own, which reads the whole folder before its answers count."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from cmtl_ir.strategy.adaptation import AdaptationContext, Adapter, Reads


class Brightness(Adapter):
    """Add `factor` times the sum of the means of the images seen before."""

    reads: ClassVar[Reads] = "folder"
    factor: float = 0.0

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        seen = self.state.get("seen", 0.0)
        self.state["seen"] = seen + degraded.mean().item()
        with torch.no_grad():
            return (context.restore(network, degraded) + self.factor * seen).clamp(0, 1)
