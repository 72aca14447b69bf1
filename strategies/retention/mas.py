"""Penalty on changes of weights that the output is sensitive to, without targets."""

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

    It uses the residual f(x) - x where the paper has f(x), because an image's brightness would decide otherwise. Each
    stage's importance has mean 1, and the stages are summed. Measured: lambda .001 has no effect, .1 preserves old
    tasks, 1 freezes the network.
    """

    strength: float = Field(0.1, ge=0)
    """lambda. Search .001 to 1."""
    crops: int = Field(500, ge=1)
    """Number of fixed training crops on which importance is measured, of all tasks of the stage together."""

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Measure importance at the weights with which the stage ended, and add it to that of earlier stages."""

        def energy(batch: Batch) -> Tensor:
            return (learner.restore(batch).restored.float() - batch.degraded).square().sum()

        omega = importance(stage, learner, self.crops, energy, torch.abs)
        omega *= mean_one(omega)
        if self.state["anchors"]:
            omega += self.state["anchors"][0]["importance"]
        self.state["anchors"] = [self.anchor(learner, omega)]
