"""Haze."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from cmtl_ir.keyed import substream, uniform_between
from cmtl_ir.registry import register
from cmtl_ir.tasks.degradations._fields import positions, smooth
from cmtl_ir.tasks.degradations._graded import Graded, Range, drawn, spread


@register
class Haze(Graded):
    """Atmospheric scattering I t + A (1 - t), t = exp(-beta d) (Koschmieder 1924; ranges of MiOIR, Kong et al. 2024).

    The depth d in [0, 1] is made up: a vertical ramp (far at the top) mixed with smooth waves, both functions of the
    position in the full image. Nothing is normalised, so two crops of one image see exactly the same haze.
    """

    severities: ClassVar = {"beta": ((0.5, 0.5), (1.0, 1.0), (1.75, 1.75), (2.5, 2.5), (3.5, 3.5))}

    beta: Range = (0.5, 2.5)
    """Scattering coefficient (MiOIR: 0.5 to 2.5; its hard test 2.5 to 3)."""
    airlight: Range = (0.8, 1.0)
    """A, brightness of the haze (MiOIR: 0.8 to 1; RESIDE-OTS: 0.8 to 1)."""
    cast: float = 0.05
    """Colour cast: every channel of A is moved by up to this much (ours; 0 gives grey haze)."""
    ramp: Range = (0.3, 0.7)
    """Share of the vertical ramp in the depth, the rest being waves (ours)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        casts = uniform_between(substream(keys, "cast"), -self.cast, self.cast, (3,))
        return {
            "beta": drawn(keys, "beta", self.beta),
            "airlight": (drawn(keys, "airlight", self.airlight)[:, None] + casts).clamp(0, 1),  # [B, 3]
            "ramp": drawn(keys, "ramp", self.ramp),
        }

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        depth = self.depth(keys, parameters["ramp"], origin, size, (clean.shape[2], clean.shape[3]))
        transmission = torch.exp(depth * -spread(parameters["beta"]))  # [B, 1, h, w]
        airlight = parameters["airlight"][:, :, None, None]
        return ((clean - airlight) * transmission + airlight).clamp_(0, 1)

    @staticmethod
    def depth(keys: Tensor, ramp: Tensor, origin: Tensor, size: Tensor, shape: tuple[int, int]) -> Tensor:
        """[B, 1, h, w] in [0, 1]."""
        height = 1 - (positions(origin, 0, shape[0]) + 0.5) / size[:, :1]  # [B, h]
        waves = smooth(substream(keys, "depth"), origin, size, shape) * 0.5 + 0.5
        return ((height * ramp[:, None])[:, :, None] + waves * (1 - ramp)[:, None, None])[:, None]
