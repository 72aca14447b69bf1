"""An unbiased estimate of the error under Gaussian noise, minimised without the truth."""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.keyed import uniform
from cmtl_ir.strategy.adaptation import AdaptationContext
from cmtl_ir.strategy.registry import register

from ._moving import Moving

CLIPPED = 3.0
"""Standard deviations from 0 and 1 within which a pixel may have been clipped."""


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
        sigma = noise_level(degraded) if self.sigma is None else self.sigma / 255.0
        inside = (
            (image > CLIPPED * sigma) & (image < 1 - CLIPPED * sigma) if self.mask else torch.ones_like(image).bool()
        )
        if sigma == 0 or not bool(inside.any()):
            context.note(f"{self.called}: makes no step for images without noise, or whose pixels are all clipped")
            return context.restore(network, degraded)
        epsilon = image.max().item() / 1000

        def loss(step: int) -> float:
            key = torch.tensor([self.key(context, "probe", step)], device=image.device)
            probe = torch.where(uniform(key, image.shape[1:]) < 0.5, -1.0, 1.0)
            answers = context.forward(network, image), context.forward(network, image + epsilon * probe)
            found = risk(image, *answers, probe, sigma, epsilon, inside)
            found.backward()
            return found.item()

        self.minimise(self.chosen(network, context), loss, context, least=-math.inf)
        return context.restore(network, degraded)


def risk(
    noisy: Tensor, answer: Tensor, probed: Tensor, probe: Tensor, sigma: float, epsilon: float, inside: Tensor
) -> Tensor:
    """Return SURE, the mean over the pixels where `inside` is true.

    `answer` is f(y) for `noisy` y, `probed` is f(y + epsilon probe); all tensors have one shape.
    """
    fit = (answer - noisy).square()
    divergence = probe * (probed - answer) / epsilon
    return (fit + 2 * sigma**2 * divergence)[inside].mean() - sigma**2


def noise_level(image: Tensor) -> float:
    """Return the standard deviation of the noise of an image [1, 3, H, W] (Donoho and Johnstone, Biometrika 1994)."""
    height, width = (side // 2 * 2 for side in image.shape[2:])
    a, b = image[:, :, 0:height:2, 0:width:2], image[:, :, 0:height:2, 1:width:2]
    c, d = image[:, :, 1:height:2, 0:width:2], image[:, :, 1:height:2, 1:width:2]
    return float(((a - b - c + d) / 2).abs().median() / 0.6745)
