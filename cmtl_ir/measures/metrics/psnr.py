"""Peak signal-to-noise ratio."""

from __future__ import annotations

from torch import Tensor

from cmtl_ir.measures.metric import Metric
from cmtl_ir.measures.protocol import Protocol
from cmtl_ir.measures.scale import PSNR
from cmtl_ir.strategy.registry import register

CAP_DB = 100.0
"""Cap for identical images, whose PSNR is infinite. MLflow stores inf as 1.8e308, which would dominate every mean."""


@register
class Psnr(Metric):
    """Peak signal-to-noise ratio per image in dB: 10 log10(255^2 / MSE), at most 100.

    It is computed per image. Pooling squared errors over a test set, the default of torchmetrics, costs up to 4 dB.
    """

    scale = PSNR

    def score(self, restored: Tensor, clean: Tensor, protocol: Protocol) -> Tensor:
        """Return the PSNR per image in dB, [B]."""
        mse = (restored - clean).square().flatten(1).mean(1)  # [B]
        return (10.0 * (255.0**2 / mse).log10()).clamp(max=CAP_DB)  # NaN stays NaN


psnr = Psnr()
