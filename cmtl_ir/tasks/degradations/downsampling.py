"""Loss of resolution: downsampling followed by upsampling."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cmtl_ir.base.keyed import choice, substream
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._filters import gathered, to_grid
from cmtl_ir.tasks.degradations._graded import Graded, spread
from cmtl_ir.tasks.degradations._limits import WholeLevels, within


@register
class Downsampling(Graded):
    """Bicubic down by a whole factor and up again, antialiased as MATLAB's `imresize` and Pillow (DIV2K's protocol).

    MiOIR's is `{factor: [4], antialias: false}`, which is `F.interpolate`. Coarse pixels lie on the grid of the full
    image. Missing pixels are reflected, with a margin so large that the interior is exactly that of MATLAB.
    """

    severities: ClassVar = {"factor": ((2,), (3,), (4,), (6,), (8,))}

    factor: Annotated[WholeLevels, within(1, 64)] = (2, 4)
    """Factors, each equally likely (MiOIR: 4)."""
    antialias: bool = True
    """False: downsampling uses the bicubic weights of the four nearest pixels, as in MiOIR."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"factor": choice(substream(keys, "factor"), self.factor)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        degraded = clean
        for factor in self.factor:
            coarse = self._down_and_up(clean, origin, factor)
            degraded = torch.where(spread(parameters["factor"] == factor), coarse, degraded)
        return degraded

    def _down_and_up(self, clean: Tensor, origin: Tensor, factor: int) -> Tensor:
        laid, rows, columns = to_grid(clean, origin, factor, margin=4 * factor)
        shape = (laid.shape[2] // factor, laid.shape[3] // factor)
        down = F.interpolate(laid, size=shape, mode="bicubic", antialias=self.antialias)
        up = F.interpolate(down, size=laid.shape[2:], mode="bicubic", antialias=self.antialias)
        return gathered(up, rows, columns).clamp_(0, 1)

    def variants(self) -> dict[str, Degradation]:
        return {f"x{factor}": self.model_copy(update={"factor": (factor,)}) for factor in self.factor}
