"""Weights that the output is sensitive to are held back; no target needed."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch, Learner, Stage
from cmtl_ir.strategy.registry import register

from ..shared.weights import mean_one
from ._anchor import Anchored, importance


@register
class MAS(Anchored):
    """Memory aware synapses (Aljundi et al., ECCV 2018, Eq. 2-3): Omega_i = mean over samples |d |f(x) - x|^2 / d w_i|.

    On the residual f(x) - x, where the paper has f(x): an image's brightness would decide otherwise. Each stage's
    importance has mean 1; they add up. Measured: lambda .001 does nothing, .1 holds old tasks, 1 freezes.
    """

    strength: float = Field(0.1, ge=0)
    """lambda; search .001 .. 1."""
    crops: int = Field(500, ge=1)
    """Fixed training crops that importance is measured on, of all tasks of the stage together."""

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Measure importance where the stage ended, and add it."""

        def energy(batch: Batch) -> Tensor:
            return (learner.restore(batch).restored.float() - batch.degraded).square().sum()

        omega = importance(stage, learner, self.crops, energy, torch.abs)
        omega *= mean_one(omega)
        if self.state["anchors"]:
            omega += self.state["anchors"][0]["importance"]
        self.state["anchors"] = [self.anchor(learner, omega)]
