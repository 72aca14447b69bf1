"""Low light."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded, drawn, spread
from cmtl_ir.tasks.degradations._limits import Range, Share, within
from cmtl_ir.tasks.degradations._photons import sensor_noise


@register
class LowLight(Graded):
    """Darkening k I^gamma, then sensor noise (MiOIR's `add_dark` is I^gamma alone; LOL is noisy).

    The setting of MiOIR is `{gain: [1, 1], gamma: [1, 3], noisy: false}`.
    """

    severities: ClassVar = {"gamma": ((1.5, 1.5), (2.0, 2.0), (2.5, 2.5), (3.0, 3.0), (4.0, 4.0))}

    gamma: Annotated[Range, within(0, 20, above=True)] = (1.5, 3.5)
    """Exponent (MiOIR: 1 to 3, hard test 3 to 4; OneRestore: 2 to 3)."""
    gain: Annotated[Range, within(0, 10)] = (0.3, 1.0)
    """Factor k (ours)."""
    shot: Share = (0.02, 0.06)
    """Standard deviation of the shot noise at white (ours: 280 to 2500 photons)."""
    read: Share = (0.0, 0.015)
    """Standard deviation of the read-out noise (ours; OneRestore adds 0.03 to 0.08 to the lit image)."""
    noisy: bool = True
    """Whether to add noise; MiOIR adds none."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {name: drawn(keys, name, getattr(self, name)) for name in ("gamma", "gain", "shot", "read")}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        # exp(gamma log x): `pow` rounds differently at the end of a vector, so bits would depend on the batch
        dark = torch.exp(clean.log() * spread(parameters["gamma"])) * spread(parameters["gain"])
        if self.noisy:
            dark = sensor_noise(keys, dark, parameters["shot"], parameters["read"])
        return dark.clamp_(0, 1)
