"""Weights that did the learning of old tasks are held back; measured on the way, without a pass over data."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.weights import weights_of
from ._anchor import Anchored


@register
class SI(Anchored):
    """Synaptic intelligence (Zenke, Poole, Ganguli, ICML 2017, Eq. 4-5): importance from the path of the weights.

    omega_i += -g_i dw_i, g before penalty and clipping, dw the step really taken; at a stage's end
    Omega_i += max(0, omega_i) / (D_i^2 + xi), D the stage's displacement. The published codes do not clamp at 0:
    their penalties turn negative. Measured: c = .1 (published) is sequential to .01 dB, 10 helps, 100 freezes.
    """

    needs_update: ClassVar[bool] = True
    cost: ClassVar[Cost] = Cost(memory="5 P")

    strength: float = Field(10.0, ge=0)
    """c; search 1 .. 1000."""
    xi: float = Field(1e-3, gt=0)
    """Damping where a weight hardly moved."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """The path starts here."""
        weights = weights_of(learner.model).detach()
        self.state.update(start=weights, last=weights, path=torch.zeros_like(weights))

    @torch.no_grad()
    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        """Add the step's part of the path integral; update [P]."""
        assert update is not None
        weights = weights_of(learner.model)  # a new tensor: a view of the live weights would make every step 0
        self.state["path"] -= update * (weights - self.state["last"])
        self.state["last"] = weights

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Path integral per squared displacement, added to that of earlier stages."""
        displacement = self.state["last"] - self.state["start"]
        omega = self.state["path"].clamp(min=0) / (displacement.square() + self.xi)
        if self.state["anchors"]:
            omega = omega + self.state["anchors"][0]["importance"]
        self.state["anchors"] = [self.anchor(learner, omega)]
