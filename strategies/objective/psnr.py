"""Negative PSNR."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.registry import register


@register
class Psnr(Objective):
    """Negative PSNR in dB of each image, 10 log10(mse + 1e-8) (Chen et al., NAFNet, ECCV 2022; authors' `PSNRLoss`)."""

    def losses(self, output: Output, batch: Batch, constants: Constants) -> Tensor:
        mean_squared_error = (output.restored.float() - batch.clean).square().mean((1, 2, 3))
        return (10.0 / math.log(10.0)) * torch.log(mean_squared_error + 1e-8)
