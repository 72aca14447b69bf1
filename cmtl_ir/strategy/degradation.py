"""The contract of a degradation: two pure functions, keys -> parameters and (clean, parameters, keys) -> degraded."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from cmtl_ir.strategy.parts import Part


class Degradation(Part):
    """Turns clean images into degraded ones, batched and on the batch's device.

    Sample b depends on its own key, clean pixels, crop origin and full size only, so its bits are the same in every
    batch. Fields are ranges; `parameters` draws from them per sample, as data that can be logged and replayed.
    """

    family: ClassVar[str] = "degradation"

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        """Draw parameters for keys [B] (int64). Return name -> [B, ...]."""
        raise TypeError(f"{type(self).__name__} does not draw parameters")

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        """Degrade clean crops.

        Args:
            clean: [B, 3, h, w] in [0, 1].
            parameters: name -> [B, ...], as `parameters` draws them.
            keys: [B] int64.
            origin, size: [B, 2] each, the origin of the crop and the full size of the image as (y, x) pixels.

        Returns:
            [B, 3, h, w] in [0, 1].
        """
        raise TypeError(f"{type(self).__name__} does not degrade")

    def __call__(self, clean: Tensor, keys: Tensor, origin: Tensor, size: Tensor) -> Tensor:
        """Draw parameters and degrade clean crops [B, 3, h, w]. Return [B, 3, h, w]."""
        return self.degrade(clean, self.parameters(keys), keys, origin, size)

    def variants(self) -> dict[str, Degradation]:
        """Return the settings that a test set evaluates, by label: one per listed level, or itself."""
        return {"": self}
