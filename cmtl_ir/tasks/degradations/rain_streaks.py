"""Rain streaks."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from cmtl_ir.base.keyed import substream
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._fields import drops, positions
from cmtl_ir.tasks.degradations._graded import Graded, drawn, drawn_whole
from cmtl_ir.tasks.degradations._limits import Range, Share, Whole, within


@register
class RainStreaks(Graded):
    """Thresholded noise stretched into slanted streaks and added to all channels (MiOIR, Kong et al. 2024, `add_rain`).

    MiOIR blurs the noise with a rotated line and divides by the maximum of the image, which on crops is another task.
    Here drops fall down columns that lean by the angle (one running sum, no 2-D kernel), and brightness is drawn. The
    rain is a function of the pixels of the full image: overlapping crops see the same bits. No borders are involved.
    """

    severities: ClassVar = {"density": ((0.001, 0.001), (0.002, 0.002), (0.004, 0.004), (0.006, 0.006), (0.009, 0.009))}

    density: Share = (0.002, 0.004)
    """Drops per pixel (MiOIR: 0.01 * U(50, 100) / 256 = 0.002 to 0.004; its hard test to 0.006)."""
    length: Annotated[Whole, within(1, 1000)] = (20, 40)
    """Number of rows that a streak covers (MiOIR: 20 to 40)."""
    angle: Annotated[Range, within(-80, 80)] = (-45, 45)
    """Lean against the vertical in degrees, positive for rain that falls to the left (MiOIR: -45 to 45)."""
    width: Annotated[Range, within(0, 50, above=True)] = (0.5, 1.2)
    """Standard deviation across a streak, in pixels along a row (MiOIR: windows of 3 to 11, i.e. 0.8 to 2)."""
    brightness: Annotated[Range, within(0, 2)] = (0.3, 0.7)
    """Value that the brightest drop adds, where white is 1; the faintest drop adds a quarter of it (ours)."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        ranges = {name: getattr(self, name) for name in ("density", "angle", "width", "brightness")}
        return {name: drawn(keys, name, limits) for name, limits in ranges.items()} | {
            "length": drawn_whole(keys, "length", self.length)
        }

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        rain = self.rain(keys, parameters, origin, (clean.shape[2], clean.shape[3]))
        return (clean + rain).clamp_(0, 1)

    def rain(self, keys: Tensor, parameters: dict[str, Tensor], origin: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the added streaks, [B, 1, h, w] >= 0."""
        reach = math.ceil(2.5 * self.width[1])
        shift = positions(origin, 0, shape[0]) * torch.tan(parameters["angle"] * (math.pi / 180))[:, None]  # [B, h]
        whole = shift.floor()
        fallen = self._fallen(keys, parameters, origin, shape, whole.long(), reach)  # [B, h, w + 2 reach + 1]
        scale = parameters["brightness"] / 255
        rain = torch.zeros(len(keys), *shape, device=keys.device)
        for tap in range(2 * reach + 2):
            offset = (tap - reach - (shift - whole)) / parameters["width"][:, None]  # [B, h]
            profile = torch.exp(offset.square() * -0.5) * scale[:, None]  # 1 at the middle of a streak
            rain += fallen[:, :, tap : tap + shape[1]] * profile[:, :, None]
        return rain[:, None]

    def _fallen(
        self,
        keys: Tensor,
        parameters: dict[str, Tensor],
        origin: Tensor,
        shape: tuple[int, int],
        shift: Tensor,  # [B, h] whole columns that a row has moved
        reach: int,
    ) -> Tensor:
        """Sum drops over the last `length` rows of leaning columns: [B, h, w + 2 reach + 1].

        The running sum of whole numbers is exact, so its bits do not depend on where a crop begins.
        """
        height, width = shape[0], shape[1] + 2 * reach + 1
        leaning = math.ceil(height * math.tan(math.radians(max(map(abs, self.angle)))))
        first = shift.amin(1)  # [B]
        rows = positions(origin, 0, height + self.length[1]) - self.length[1]
        columns = positions(origin, 1, width + leaning) - reach + first[:, None]
        field = drops(substream(keys, "drops"), rows, columns, parameters["density"]).cumsum(1, dtype=torch.int32)
        lower = torch.arange(height, device=keys.device) + self.length[1]  # [h]
        upper = lower - parameters["length"].long()[:, None]  # [B, h]
        sample = torch.arange(len(keys), device=keys.device)[:, None]
        summed = field[:, self.length[1] :] - field[sample, upper]  # [B, h, w + 2 reach + 1 + leaning]
        column = torch.arange(width, device=keys.device) + (shift - first[:, None])[:, :, None]
        return summed.gather(2, column).to(torch.float32)
