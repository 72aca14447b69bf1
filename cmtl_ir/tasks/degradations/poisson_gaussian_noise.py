"""Sensor noise: photon counts and read-out."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded, drawn
from cmtl_ir.tasks.degradations._limits import Share
from cmtl_ir.tasks.degradations._photons import sensor_noise


@register
class PoissonGaussianNoise(Graded):
    """Poisson-Gaussian noise of variance shot^2 x + read^2 (Foi et al., TIP 2008; ranges of CBDNet, CVPR 2019).

    Counts are Poisson numbers, not Gaussian numbers as in CBDNet's code. The result is clipped but not quantised.
    """

    noise: ClassVar = "zero mean"
    severities: ClassVar = {  # ImageNet-C's 60, 25, 12, 5, 3 photons at white
        "shot": ((0.129, 0.129), (0.2, 0.2), (0.289, 0.289), (0.447, 0.447), (0.577, 0.577)),
        "read": ((0, 0),) * 5,
    }

    shot: Share = (0.0, 0.16)
    """Standard deviation of the shot noise at white: 1 / sqrt(photons) (CBDNet: 0 to 0.16)."""
    read: Share = (0.0, 0.06)
    """Standard deviation of the read-out noise (CBDNet: 0 to 0.06)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"shot": drawn(keys, "shot", self.shot), "read": drawn(keys, "read", self.read)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        return sensor_noise(keys, clean, parameters["shot"], parameters["read"]).clamp_(0, 1)
