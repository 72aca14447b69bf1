"""Training on noisy images without the truth, by an unbiased estimate of the error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cmtl_ir.base import keyed
from cmtl_ir.strategy.data import Batch, Learner
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Cost
from cmtl_ir.strategy.registry import register

from ..shared.stein import noise_levels, risk, unclipped
from ._unlabelled import Unlabelled


@register
class Sure(Unlabelled):
    """Training by Stein's unbiased risk estimate (Soltanayev and Chun, NeurIPS 2018) on unlabelled noisy images.

    Rows `unlabelled:TASK` have the loss R = |f(y) - y|^2 / P - sigma^2 + (2 sigma^2 / P) b^T (f(y + eps b) - f(y)) /
    eps, whose mean is the squared error against the clean image, less what does not depend on the network. b is +-1,
    keyed by (task, id, step); eps is a thousandth of the largest pixel. It holds for Gaussian noise alone. With
    `share: 0` or `weight: 0` it is joint training on the labelled images.

    Departures: sigma is estimated from each crop unless it is given. Clipping to [0, 1] breaks the estimate, so pixels
    within 3 sigma of 0 and 1 are left out; rounding to 8 bits is harmless. The difference quotient needs float32: set
    `training.precision: float32` on a GPU with bf16.
    """

    cost: ClassVar[Cost] = Cost("2 per unlabelled sample", forward_passes="1 per unlabelled sample")
    meant_for: ClassVar[str] = "adds Gaussian noise and nothing else; name tasks of noisy files in `tasks`"

    sigma: float | None = Field(None, gt=0)
    """Standard deviation of the noise on the 0..255 scale; null: estimated from the diagonal Haar details of each crop
    (median absolute value / .6745)."""
    mask: bool = True
    """Whether pixels that clipping may have changed are left out."""

    def unfit(self, task: str, learner: Learner) -> str:
        known = learner.degradation(task)
        if known is None:
            return "" if task in self.tasks else "has images from files, whose noise is not known"
        return "" if known.noise == "gaussian" else f"has the degradation {known.called}, which is not Gaussian noise"

    def without_truth(self, task: str, learner: Learner) -> dict[str, Any]:
        def loss(output: Output, batch: Batch) -> Tensor:
            noisy = batch.degraded
            sigma = noise_levels(noisy)
            if self.sigma is not None:
                sigma = torch.full_like(sigma, self.sigma / 255)
            keys = keyed.keys_of(keyed.name_key(learner.seed, "sure", task, learner.step), batch.ids.to(noisy.device))
            probe = torch.where(keyed.uniform(keys, noisy.shape[1:]) < 0.5, -1.0, 1.0)
            epsilon = noisy.amax((1, 2, 3)).clamp(min=1e-3) / 1000
            shifted = replace(batch, degraded=noisy + epsilon.view(-1, 1, 1, 1) * probe)
            probed = learner.restore(shifted).restored.float()
            inside = unclipped(noisy, sigma) if self.mask else torch.ones_like(noisy, dtype=torch.bool)
            return risk(noisy, output.restored.float(), probed, probe, sigma, epsilon, inside)

        return {"loss": loss}
