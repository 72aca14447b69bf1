"""The choice of a width for each image, by what each width restores."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class WidthChoice(Objective):
    """Expected error and budget of the chosen width (U-WADN, Xu et al., 2024).

    sum_i p_i L1_i + (sum_i p_i width_i - `budget`)^2, with p the probabilities of the widths. For networks whose
    `forward_features` returns "width" [B, W], logits, "images" [B, W, 3, H, W], one of each width, and "widths" [B, W]:
    uwadn with `stage: 2`. The authors add the classification of the task: `own_classes` with weight 1 and smoothing 0.

    Departure: the budget is that of each sample. The authors average the width over the batch first.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"output", "own_features"})

    budget: float = Field(0.8, gt=0, le=1)
    """Mean width that is aimed at, as a share of the full width."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        if "images" not in output.features:
            raise UserError(f"{self.called}: the backbone restores at no width but its own; give uwadn `stage: 2`")
        shares = output.features["width"].float().softmax(1)
        errors = (output.features["images"].float() - batch.clean[:, None]).abs().mean((2, 3, 4))
        spent = (shares * output.features["widths"].float()).sum(1)
        return (shares * errors).sum(1) + (spent - self.budget).square()
