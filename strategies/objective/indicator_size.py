"""Size of the indicators that switch a task's own branches on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class IndicatorSize(Objective):
    """Sum of the absolute indicators of a sample's weather over the convolutions (WGWS-Net, Zhu et al., CVPR 2023).

    For networks whose `forward_features` returns "indicators" [B]: wgws with `stage: 2` or `both`. An indicator below
    0.1 switches its branch off, so that a task keeps only the branches that it needs.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})

    weight: float = Field(8e-6, ge=0)
    """w: factor of this objective next to the base objective. Published: 0.008 / 1000."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        return output.features["indicators"].float()
