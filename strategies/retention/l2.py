"""Plain L2 penalty towards the old weights."""

from __future__ import annotations

import torch
from pydantic import Field

from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.registry import register

from ..shared.weights import weights_of
from ._anchor import Anchored


@register
class L2(Anchored):
    """lambda |w - w*|^2, w* the last stage's weights: the baseline of EWC (Kirkpatrick et al., PNAS 2017, Fig. 2).

    Measured: .001 has no effect, .1 preserves old tasks, 10 freezes the network.
    """

    strength: float = Field(0.1, ge=0)
    """lambda. Search .001 to 1."""

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Keep the weights, with the same importance for all of them."""
        self.state["anchors"] = [self.anchor(learner, torch.ones_like(weights_of(learner.model).detach()))]
