"""Penalty on changes of weights that old losses are sensitive to."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, Stage
from cmtl_ir.strategy.registry import register

from ..shared.weights import mean_one
from ._anchor import Anchored, importance


@register
class EWC(Anchored):
    """Elastic weight consolidation (Kirkpatrick et al., PNAS 2017, Eq. 3): lambda sum_i F_i (w_i - w*_i)^2, no 1/2.

    F_i = mean over samples of (d loss of ONE sample / d w_i)^2, the empirical Fisher. Measured: lambda .01 has no
    effect, 1 halves forgetting, 10 freezes the network. No lambda preserves haze through noise and then blur.
    """

    mode: Literal["separate", "online"] = "separate"
    """separate: one (F, w*) per stage; online: one F for all stages, decayed and summed, and the newest w* (Schwarz
    2018)."""
    decay: float = Field(1.0, ge=0, le=1)
    """gamma: decay of F in mode online."""
    normalise: Literal["mean1", "none"] = "mean1"
    """mean1: F is scaled to mean 1 over all weights when it is used (online sums the raw values); none: raw."""
    crops: int = Field(500, ge=1)
    """Number of fixed training crops on which F is measured, of all tasks of the stage together."""

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Measure F at the weights with which the stage ended."""

        def loss(batch: Batch) -> Tensor:
            return learner.sample_losses(learner.restore(batch), batch).mean()

        fisher = importance(stage, learner, self.crops, loss, torch.square)
        if self.mode == "online" and self.state["anchors"]:
            fisher = self.decay * self.state["anchors"][0]["importance"] + fisher
        anchor = self.anchor(learner, fisher, mean_one(fisher) if self.normalise == "mean1" else 1.0)
        self.state["anchors"] = [*self.state["anchors"], anchor] if self.mode == "separate" else [anchor]
