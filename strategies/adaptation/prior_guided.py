"""A denoiser as image prior, and a degradation that is fitted to the one test image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.keyed import normal
from cmtl_ir.strategy.adaptation import AdaptationContext, Adapter
from cmtl_ir.strategy.output import final_output
from cmtl_ir.strategy.registry import register

KERNEL = 5
"""Side of the kernel of `model: blur` in pixels."""


@register
class PriorGuided(Adapter):
    """Sampling under a prior with a fitted degradation, as GDP (Fei et al., CVPR 2023) does with a diffusion model.

    The prior D is a denoiser: a finished run of one task, noise. The samples start at x = y + sigma_1 noise. At each
    level x0 = D(x), the parameters of A are fitted to |A(x0) - y|, x0' = x0 - `guide` grad |A(x0) - y|^2 (a sum of
    squares, not through D), and x <- x0' + (sigma_next / sigma)(x - x0). Levels are geometric, and a last one is 0. The
    network that is evaluated is not used. A note tells the size of the prior.

    Departures: no diffusion model of hundreds of millions of parameters. D is blind to sigma, and its input is clipped
    to [0, 1], as in its training. Without a prior that was trained on strong noise the answers are poor.
    Cost: `levels` forward passes of the prior, each over the whole image.
    """

    prior: str
    """Finished run of one task, noise over a wide range of levels."""
    model: Literal["pointwise", "blur"] = "pointwise"
    """The degradation A: gain, gamma and offset of each channel (haze, low light), or a 5x5 kernel whose sum is 1."""
    levels: int = Field(30, ge=0)
    """Number of noise levels; 0: the answer is that of `none`."""
    high: float = Field(1.0, gt=0)
    """First noise level, on the scale 0..1."""
    low: float = Field(0.01, gt=0)
    """Last noise level before 0."""
    fits: int = Field(5, ge=0)
    """Steps of Adam per level for the parameters of A; 0: A is the identity."""
    fit_rate: float = Field(1e-2, ge=0)
    """Learning rate of these steps."""
    guide: float = Field(0.25, ge=0)
    """Length of the step towards the image."""

    def adapt(self, network: nn.Module, degraded: Tensor, context: AdaptationContext) -> Tensor:
        if self.levels == 0:
            return context.restore(network, degraded)
        prior = context.finished(self.prior)
        size = sum(one.numel() for one in prior.parameters())
        context.note(f"{self.called}: the prior {self.prior} has {size:,} parameters")
        numbers = torch.zeros(1, dtype=torch.int64, device=degraded.device)
        measured = (Pointwise() if self.model == "pointwise" else Blur()).to(degraded.device)
        optimizer = torch.optim.Adam(measured.parameters(), lr=self.fit_rate)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            with torch.no_grad():
                return final_output(prior, prior(x.clamp(0.0, 1.0), numbers)).float()

        def guided(clean: Tensor) -> Tensor:
            for _ in range(self.fits):
                optimizer.zero_grad()
                (measured(clean) - degraded).abs().mean().backward()
                optimizer.step()
            return towards(clean, measured, degraded, self.guide)

        key = torch.tensor([self.key(context, "start")], device=degraded.device)
        start = degraded + self.high * normal(key, degraded.shape[1:])
        return flow(start, [*geometric(self.high, self.low, self.levels), 0.0], denoise, guided).clamp(0.0, 1.0)


class Pointwise(nn.Module):
    """gain x^gamma + offset per channel, the identity at first."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.gamma = nn.Parameter(torch.ones(3, 1, 1)), nn.Parameter(torch.ones(3, 1, 1))
        self.offset = nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:  # [1, 3, H, W] -> [1, 3, H, W]
        return self.gain * x.clamp(min=1e-3) ** self.gamma + self.offset


class Blur(nn.Module):
    """One 5x5 kernel for all channels, whose sum is 1; the identity at first."""

    def __init__(self) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.zeros(KERNEL, KERNEL))
        with torch.no_grad():
            self.free[KERNEL // 2, KERNEL // 2] = 1.0

    def forward(self, x: Tensor) -> Tensor:  # [1, 3, H, W] -> [1, 3, H, W]
        kernel = self.free + (1.0 - self.free.sum()) / KERNEL**2
        padded = F.pad(x, [KERNEL // 2] * 4, mode="replicate")
        return F.conv2d(padded, kernel.expand(3, 1, KERNEL, KERNEL), groups=3)


def geometric(high: float, low: float, count: int) -> list[float]:
    """Return `count` levels from high to low with a constant ratio; `high` alone for one level."""
    return [high * (low / high) ** (place / max(count - 1, 1)) for place in range(count)]


def towards(clean: Tensor, measured: Callable[[Tensor], Tensor], observed: Tensor, step: float) -> Tensor:
    """Return x - step grad_x |A(x) - y|^2, with the sum of squares, for A = `measured` and y = `observed`."""
    x = clean.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad((measured(x) - observed).square().sum(), x)
    return (x - step * gradient).detach()


def flow(
    start: Tensor,
    levels: Sequence[float],
    denoise: Callable[[Tensor, float], Tensor],
    guided: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the end of x <- x0' + (sigma_next / sigma)(x - x0), x0 = denoise(x, sigma), x0' = guided(x0)."""
    x = start
    for sigma, following in itertools.pairwise(levels):
        clean = denoise(x, sigma)
        x = guided(clean) + following / sigma * (x - clean)
    return x
