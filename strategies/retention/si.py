"""Penalty on changes of weights that learnt old tasks, measured during training without a pass over data."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.tasks import own_tasks
from ..shared.weights import weights_of
from ._anchor import Anchored


@register
class SI(Anchored):
    """Synaptic intelligence (Zenke, Poole, Ganguli, ICML 2017, Eq. 4-5): importance from the path of the weights.

    omega_i += -g_i dw_i, with g before penalty and clipping and dw the step actually taken. At a stage's end Omega_i +=
    max(0, omega_i) / (D_i^2 + xi), with D the stage's displacement. The published codes do not clamp at 0, so their
    penalties become negative. Measured: c = .1 (published) is sequential to .01 dB, 10 helps, 100 freezes the network.
    """

    needs_update: ClassVar[bool] = True
    cost: ClassVar[Cost] = Cost(memory="5 P")

    strength: float = Field(10.0, ge=0)
    """c. Search 1 to 1000."""
    xi: float = Field(1e-3, gt=0)
    """Damping for weights that hardly moved."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Start the path integral at the current weights."""
        weights = weights_of(learner.model).detach()
        self.state.update(start=weights, last=weights, path=torch.zeros_like(weights))

    def learned_before(self, stage: Stage, learner: Learner) -> None:
        """Raise ConfigError: the path of the weights that learnt the tasks is not known."""
        raise ConfigError(
            f"retention: {self.called} measures importance while a task is trained, so it cannot protect "
            f"{', '.join(own_tasks(stage))}, which the weights of `start` already know; use ewc or mas"
        )

    @torch.no_grad()
    def after_step(self, learner: Learner, update: Tensor | None) -> None:
        """Add this step's part of the path integral, from the update [P]."""
        assert update is not None
        weights = weights_of(learner.model)  # a new tensor: a view of the live weights would make every step 0
        self.state["path"] -= update * (weights - self.state["last"])
        self.state["last"] = weights

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Divide the path integral by the squared displacement, and add it to that of earlier stages."""
        displacement = self.state["last"] - self.state["start"]
        omega = self.state["path"].clamp(min=0) / (displacement.square() + self.xi)
        if self.state["anchors"]:
            omega = omega + self.state["anchors"][0]["importance"]
        self.state["anchors"] = [self.anchor(learner, omega)]
