"""An averaged teacher, and weights that are set back at random, while images keep coming."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from cmtl_ir.base.keyed import uniform
from cmtl_ir.strategy.adaptation import AdaptationContext, Reads
from cmtl_ir.strategy.registry import register

from ._moving import SMALL, Moving
from ._views import ensemble


@register
class TeacherRestore(Moving):
    """CoTTA (Wang et al., CVPR 2022) with the teacher's mean over eight symmetries as target.

    Per step: the network moves towards the target under the run's base objective l, the teacher averages its weights
    with decay `alpha`, and each coordinate is set back to its trained value with probability `p`. Keyed by (image,
    step, parameter).

    Departure: the authors augment only where the teacher is unsure. A restorer has no such confidence, so the target
    is always the mean.
    Cost: 8 forward passes, and 1 forward and backward pass per step, on the crop.
    """

    reads: ClassVar[Reads] = "stream"

    steps: int = Field(1, ge=0)
    """Steps per image; 0: nothing moves."""
    alpha: float = Field(0.99, ge=0, le=1)
    """Decay of the teacher's average."""
    p: float = Field(0.01, ge=0, le=1)
    """Probability with which a coordinate is set back after a step. 1: the answers are those of `none`."""

    _teacher: Any = PrivateAttr(None)
    _optimizer: Any = PrivateAttr(None)

    def begin(self, network: nn.Module, context: AdaptationContext) -> None:
        if self.still:
            return
        self._teacher = copy.deepcopy(network).requires_grad_(False)
        named = self.chosen(network, context)
        self._optimizer = torch.optim.Adam([one for _, one in named], lr=self.rate)
        self.state["start"] = {name: one.detach().clone() for name, one in named}

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        if not self.still:
            image = self.crop(degraded, context)
            for step in range(self.steps):
                self._step(network, image, step, context)
        return context.restore(network, degraded)

    def _step(self, network: nn.Module, image: Tensor, step: int, context: AdaptationContext) -> None:
        self._optimizer.zero_grad()
        loss = context.loss(context.forward(network, image), ensemble(self._teacher, image, context))
        if loss.item() < SMALL:
            return
        loss.backward()
        self._optimizer.step()
        context.stepped()
        self._after(network, step, context)

    @torch.no_grad()
    def _after(self, network: nn.Module, step: int, context: AdaptationContext) -> None:
        for teacher, student in zip(self._teacher.parameters(), network.parameters(), strict=True):
            teacher.lerp_(student, 1.0 - self.alpha)
        for name, parameter in network.named_parameters():
            if name in self.state["start"]:
                key = torch.tensor([self.key(context, step, name)], device=parameter.device)
                back = uniform(key, parameter.shape)[0] < self.p
                parameter.copy_(torch.where(back, self.state["start"][name], parameter))
