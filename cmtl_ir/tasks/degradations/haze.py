"""Haze."""

from __future__ import annotations

import os
from functools import cache
from typing import Annotated, ClassVar

import numpy as np
import torch
from torch import Tensor

from cmtl_ir.base.keyed import integers, substream, uniform_between
from cmtl_ir.base.record import OmitIfDefault
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._fields import positions, smooth, stretched
from cmtl_ir.tasks.degradations._graded import Graded, drawn, spread
from cmtl_ir.tasks.degradations._limits import Number, Range, Share, within
from cmtl_ir.tasks.images.decode import DataError


@register
class Haze(Graded):
    """Atmospheric scattering I t + A (1 - t), t = exp(-beta d) (Koschmieder 1924; ranges of MiOIR, Kong et al. 2024).

    The depth d in [0, 1] is synthetic: a vertical ramp (far at the top) mixed with smooth waves, both functions of the
    position in the full image. Nothing is normalised, so two crops of one image see exactly the same haze. Known depth
    is drawn from `depths`, or passed from Python for each image as the parameter "depth" [B, 1, h, w].
    RESIDE's indoor ranges (Li et al., TIP 2019) are `{beta: [0.6, 1.8], airlight: [0.7, 1], cast: 0}`.
    """

    severities: ClassVar = {"beta": ((0.5, 0.5), (1.0, 1.0), (1.75, 1.75), (2.5, 2.5), (3.5, 3.5))}

    beta: Annotated[Range, within(0, 20)] = (0.5, 2.5)
    """Scattering coefficient (MiOIR: 0.5 to 2.5; its hard test 2.5 to 3)."""
    airlight: Share = (0.8, 1.0)
    """A, brightness of the haze (MiOIR: 0.8 to 1; RESIDE-OTS: 0.8 to 1)."""
    cast: Annotated[Number, within(0, 1)] = 0.05
    """Colour cast: the largest shift of each channel of A (ours; 0 gives grey haze)."""
    ramp: Share = (0.3, 0.7)
    """Share of the vertical ramp in the depth, the rest being waves (ours)."""
    depths: Annotated[str | None, OmitIfDefault()] = None
    """A .npy array [N, H, W] of depths, 0 near to 1 far, to draw from; each is stretched over the image.
    null: synthetic depth."""

    def prepare(self) -> None:
        if self.depths is not None:
            stored_depths(self.depths)

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        casts = uniform_between(substream(keys, "cast"), -self.cast, self.cast, (3,))
        depth = {"ramp": drawn(keys, "ramp", self.ramp)}
        if self.depths is not None:
            depth = {"map": integers(substream(keys, "map"), 0, len(stored_depths(self.depths)))}
        return depth | {
            "beta": drawn(keys, "beta", self.beta),
            "airlight": (drawn(keys, "airlight", self.airlight)[:, None] + casts).clamp(0, 1),  # [B, 3]
        }

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        shape = (clean.shape[2], clean.shape[3])
        if "depth" in parameters:
            depth = parameters["depth"]
        elif self.depths is not None:
            maps = stored_depths(self.depths)[parameters["map"].cpu()]
            depth = stretched(maps.to(clean.device), origin, size, shape)[:, None]
        else:
            depth = self.depth(keys, parameters["ramp"], origin, size, shape)
        transmission = torch.exp(depth * -spread(parameters["beta"]))  # [B, 1, h, w]
        airlight = parameters["airlight"][:, :, None, None]
        return ((clean - airlight) * transmission + airlight).clamp_(0, 1)

    @staticmethod
    def depth(keys: Tensor, ramp: Tensor, origin: Tensor, size: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return synthetic depth [B, 1, h, w] in [0, 1]."""
        height = 1 - (positions(origin, 0, shape[0]) + 0.5) / size[:, :1]  # [B, h]
        waves = smooth(substream(keys, "depth"), origin, size, shape) * 0.5 + 0.5
        return ((height * ramp[:, None])[:, :, None] + waves * (1 - ramp)[:, None, None])[:, None]


@cache
def stored_depths(path: str) -> Tensor:
    """Read depths [N, H, W] float32 in [0, 1]. Raise DataError if the file holds no such array."""
    try:
        maps = np.load(os.path.expanduser(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"haze.depths: {path}: not a .npy array of numbers ({error}); name a file that holds one"
        ) from error
    if maps.ndim != 3 or maps.size == 0 or not (maps.min() >= 0 and maps.max() <= 1):
        raise DataError(f"haze.depths: {path}: expected [N, H, W] in 0 (near) .. 1 (far), found {list(maps.shape)}")
    return torch.from_numpy(maps.astype(np.float32))
