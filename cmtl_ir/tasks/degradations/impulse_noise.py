"""Salt-and-pepper noise."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cmtl_ir.base.keyed import substream, uniform
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded, drawn, spread
from cmtl_ir.tasks.degradations._limits import Share


@register
class ImpulseNoise(Graded):
    """Salt and pepper: a share of the values becomes 0 or 1, equally likely (ImageNet-C, ICLR 2019)."""

    severities: ClassVar = {"amount": ((0.03, 0.03), (0.06, 0.06), (0.09, 0.09), (0.17, 0.17), (0.27, 0.27))}

    amount: Share = (0.03, 0.27)
    """Share of replaced values (ImageNet-C: 0.03 to 0.27)."""
    coloured: bool = True
    """True: channels are replaced independently (ImageNet-C). False: whole pixels turn black or white."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"amount": drawn(keys, "amount", self.amount)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        channels = clean.shape[1] if self.coloured else 1
        chance = uniform(substream(keys, "impulse"), (channels, *clean.shape[2:]))
        half = spread(parameters["amount"] / 2)
        return clean.masked_fill(chance < half, 1.0).masked_fill(chance > 1 - half, 0.0)
