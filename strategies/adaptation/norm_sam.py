"""Sharpness-aware steps on normalisation layers, while images keep coming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr
from torch import Tensor, nn

from cmtl_ir.strategy.adaptation import AdaptationContext, Reads
from cmtl_ir.strategy.registry import register

from ._moving import SMALL, Moving, training_images
from ._views import ensemble, spread


@register
class NormSam(Moving):
    """SAR (Niu et al., ICLR 2023) with the consistency under symmetries in place of the entropy.

    Normalisation layers move, by the gradient at w + rho g / |g|. An image whose consistency exceeds `drop` times the
    median over training images makes no step. The weights are set back where they have moved by more than
    `max_change` of their norm. A network without normalisation layers moves its biases.
    Cost: 24 forward and 16 backward passes per step, on the crop.
    """

    reads: ClassVar[Reads] = "stream"

    params: str | list[str] = "norm"
    """Parameters that move: all, norm (those of normalisation layers), bias, or patterns of names."""
    steps: int = Field(1, ge=0)
    """Steps per image; 0: nothing moves."""
    rho: float = Field(0.05, ge=0)
    """Length of the step to the sharper weights."""
    drop: float = Field(4.0, gt=0)
    """Multiple of the median consistency above which an image makes no step."""
    max_change: float = Field(0.01, gt=0)
    """Change |w - w0| / |w0| of the moved parameters above which they are set back."""
    samples: int = Field(32, ge=1)
    """Training images over which the median is taken."""

    _optimizer: Any = PrivateAttr(None)

    def begin(self, network: nn.Module, context: AdaptationContext) -> None:
        if self.still:
            return
        named = self.chosen(network, context)
        self._optimizer = torch.optim.Adam([one for _, one in named], lr=self.rate)
        self.state["start"] = [one.detach().clone() for _, one in named]
        images = training_images(context, self.samples)
        values = [spread(network, image, ensemble(network, image, context), context, False) for image in images]
        self.state["limit"] = self.drop * torch.tensor(values).median().item()

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        if not self.still:
            image = self.crop(degraded, context)
            for _ in range(self.steps):
                self._step(network, image, context)
        return context.restore(network, degraded)

    def _step(self, network: nn.Module, image: Tensor, context: AdaptationContext) -> None:
        moved = [one for one in network.parameters() if one.requires_grad]
        target = ensemble(network, image, context)
        self._optimizer.zero_grad()
        if not SMALL <= spread(network, image, target, context, True) <= self.state["limit"]:
            return
        here = [one.detach().clone() for one in moved]
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad.clone() for one in moved]
        with torch.no_grad():
            for one, sharper in zip(moved, sharpened(here, gradients, self.rho), strict=True):
                one.copy_(sharper)
        self._optimizer.zero_grad()
        spread(network, image, target, context, True)
        with torch.no_grad():
            for one, before in zip(moved, here, strict=True):
                one.copy_(before)
        self._optimizer.step()
        context.stepped()
        if change(moved, self.state["start"]) > self.max_change:
            self._set_back(moved)
            context.note(
                f"{self.called}: the weights were set back where they had moved by more than {self.max_change:g}"
            )

    @torch.no_grad()
    def _set_back(self, moved: Sequence[Tensor]) -> None:
        for one, trained in zip(moved, self.state["start"], strict=True):
            one.copy_(trained)
        self._optimizer.state.clear()


def sharpened(weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """Return w + rho g / |g|, with one norm over all tensors; w where g is 0."""
    norm = torch.stack([one.square().sum() for one in gradients]).sum().sqrt()
    factor = rho / norm if norm > 0 else torch.zeros_like(norm)
    return [weight + factor * gradient for weight, gradient in zip(weights, gradients, strict=True)]


def change(now: Sequence[Tensor], start: Sequence[Tensor]) -> float:
    """Return |w - w0| / |w0| over all tensors; 0 where w0 is 0."""
    moved = sum((one.detach() - trained).float().square().sum() for one, trained in zip(now, start, strict=True))
    length = sum(trained.float().square().sum() for trained in start)
    return float(torch.as_tensor(moved).sqrt() / torch.as_tensor(length).sqrt()) if float(length) > 0 else 0.0
