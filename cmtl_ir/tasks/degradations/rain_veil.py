"""Heavy rain: streaks, and a veil of distant rain."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cmtl_ir.base.keyed import substream
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded
from cmtl_ir.tasks.degradations.haze import Haze
from cmtl_ir.tasks.degradations.rain_streaks import RainStreaks


@register
class RainVeil(Graded):
    """Heavy rain (Li, Cheong and Tan, CVPR 2019): t (I + streaks) + A (1 - t); the sum is clipped at the end."""

    severities: ClassVar = {
        "rain": [{"density": value} for value in RainStreaks.severities["density"]],
        "veil": [{"beta": [value, value]} for value in (0.2, 0.4, 0.8, 1.2, 2.0)],
    }

    rain: RainStreaks = RainStreaks()
    """Fields of the streaks."""
    veil: Haze = Haze(beta=(0.3, 1.2), airlight=(0.7, 0.95), cast=0.0)
    """Fields of the veil (ours: thinner and greyer than haze)."""

    def prepare(self) -> None:
        self.veil.prepare()

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        rain = self.rain.parameters(substream(keys, "rain"))
        veil = self.veil.parameters(substream(keys, "veil"))
        return {f"rain.{name}": value for name, value in rain.items()} | {
            f"veil.{name}": value for name, value in veil.items()
        }

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        of_rain, of_veil = (
            {name.removeprefix(part): value for name, value in parameters.items() if name.startswith(part)}
            for part in ("rain.", "veil.")
        )
        shape = (clean.shape[2], clean.shape[3])
        rainy = clean + self.rain.rain(substream(keys, "rain"), of_rain, origin, shape)
        return self.veil.degrade(rainy, of_veil, substream(keys, "veil"), origin, size)
