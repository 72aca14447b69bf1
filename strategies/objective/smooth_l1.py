"""Absolute error that is quadratic near zero."""

from __future__ import annotations

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register

DEVIATION = (0.229, 0.224, 0.225)


@register
class SmoothL1(Objective):
    """Smooth L1 error (Girshick, ICCV 2015, Eq. 3), mean over pixels and channels.

    e^2 / (2 beta) for |e| below beta, |e| - beta / 2 otherwise. Published: wgws has beta 1; prores has beta 0.01 and
    `normalized: true`.
    """

    beta: float = Field(1.0, gt=0)
    """Error at which the quadratic part ends."""
    normalized: bool = False
    """Whether errors are divided by ImageNet's deviation of each channel, as for images normalized by it."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        restored, clean = output.restored.float(), batch.clean
        if self.normalized:
            restored, clean = (one / one.new_tensor(DEVIATION)[:, None, None] for one in (restored, clean))
        return F.smooth_l1_loss(restored, clean, reduction="none", beta=self.beta).mean((1, 2, 3))
