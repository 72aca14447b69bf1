"""An unbiased estimate of the error under Gaussian noise, minimised without the truth."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.keyed import uniform
from cmtl_ir.strategy.adaptation import AdaptationContext
from cmtl_ir.strategy.registry import register

from ..shared.stein import noise_levels, risk, unclipped
from ._moving import Moving


@register
class Sure(Moving):
    """Stein's unbiased risk estimate (Stein, Annals of Statistics 1981), with the divergence of Ramani et al. (2008).

    R = |f(y) - y|^2 / P - sigma^2 + (2 sigma^2 / P) b^T (f(y + eps b) - f(y)) / eps, b = +-1 keyed by (image, step).
    It holds for Gaussian noise alone. Clipping breaks it: with `mask`, pixels within 3 sigma of 0 and 1 are left out,
    and an image without any other pixel is answered as it is without adaptation.
    Cost: 2 forward passes and 1 backward pass through both per step, on the crop.
    """

    sigma: float | None = Field(None, gt=0)
    """Standard deviation of the noise on the 0..255 scale; null: estimated from the diagonal Haar details of the image
    (median absolute value / .6745)."""
    mask: bool = True
    """Whether pixels that clipping may have changed are left out."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        if self.still:
            return context.restore(network, degraded)
        image = self.crop(degraded, context)
        sigma = noise_levels(degraded) if self.sigma is None else image.new_full((1,), self.sigma / 255)
        inside = unclipped(image, sigma) if self.mask else torch.ones_like(image).bool()
        if float(sigma) == 0 or not bool(inside.any()):
            context.note(f"{self.called}: makes no step for images without noise, or whose pixels are all clipped")
            return context.restore(network, degraded)
        epsilon = image.max().view(1) / 1000

        def loss(step: int) -> float:
            key = torch.tensor([self.key(context, "probe", step)], device=image.device)
            probe = torch.where(uniform(key, image.shape[1:]) < 0.5, -1.0, 1.0)
            answers = context.forward(network, image), context.forward(network, image + epsilon * probe)
            (found,) = risk(image, *answers, probe, sigma, epsilon, inside)
            found.backward()
            return found.item()

        self.minimise(self.chosen(network, context), loss, context, least=-math.inf)
        return context.restore(network, degraded)
