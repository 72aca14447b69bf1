"""Gaussian noise."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from torch import Tensor

from cmtl_ir.base.keyed import choice, normal, substream
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded, spread
from cmtl_ir.tasks.degradations._limits import Levels, within


@register
class GaussianNoise(Graded):
    """Additive white Gaussian noise on all channels, then quantised and clipped (AirNet, CVPR 2022; PromptIR, AdaIR).

    AirNet and its successors floor to 8 bits, which darkens by 0.4 grey levels. `quantise: floor` gives their numbers.
    """

    noise: ClassVar = "gaussian"
    severities: ClassVar = {"sigma": ((20.4,), (30.6,), (45.9,), (66.3,), (96.9,))}  # ImageNet-C

    sigma: Annotated[Levels, within(0, 255)] = (15, 25, 50)
    """Standard deviations on the 0..255 scale, each equally likely (AirNet, PromptIR: 15, 25, 50)."""
    quantise: Literal["none", "round", "floor"] = "round"
    """round: to 8 bits, as an image file would store it. floor: as in AirNet's code. none: floats are kept."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"sigma": choice(substream(keys, "sigma"), self.sigma)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        noise = normal(substream(keys, "noise"), clean.shape[1:])  # [B, 3, h, w]
        noisy = noise.mul_(spread(parameters["sigma"] / 255)).add_(clean)
        if self.quantise == "none":
            return noisy.clamp_(0, 1)
        levels = noisy.mul_(255)
        levels = levels.round_() if self.quantise == "round" else levels.floor_()
        return levels.div_(255).clamp_(0, 1)

    def variants(self) -> dict[str, Degradation]:
        return {f"sigma{sigma:g}": self.model_copy(update={"sigma": (sigma,)}) for sigma in self.sigma}
