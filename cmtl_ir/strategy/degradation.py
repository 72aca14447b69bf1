"""The contract of a degradation: two pure functions, keys -> parameters and (clean, parameters, keys) -> degraded."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from cmtl_ir.strategy.parts import Part


class Degradation(Part):
    """Degrade clean images, batched and on the device of the batch.

    Sample b depends only on its own key, clean pixels, crop origin and full size, so its bits are the same in every
    batch. Fields are ranges. `parameters` draws from them per sample, as data that can be logged and replayed.
    """

    family: ClassVar[str] = "degradation"
    noise: ClassVar[Literal["gaussian", "zero mean"] | None] = None
    """Kind of noise of a degradation that does nothing but add noise and clip; `None` for any other degradation."""

    def prepare(self) -> None:
        """Read the files that the fields name, such as kernels, before anything is trained. Raise DataError."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        """Draw the parameters: keys [B] int64 -> parameter name -> [B, ...]."""
        raise TypeError(f"{type(self).__name__} does not draw parameters")

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        """Degrade images with given parameters.

        clean [B, 3, h, w] in [0, 1], keys [B], crop origin [B, 2] and full size [B, 2] as (y, x) pixels
        -> degraded [B, 3, h, w] in [0, 1].
        """
        raise TypeError(f"{type(self).__name__} does not degrade")

    def __call__(self, clean: Tensor, keys: Tensor, origin: Tensor, size: Tensor) -> Tensor:
        """Draw parameters and degrade clean crops [B, 3, h, w]. Return [B, 3, h, w]."""
        return self.degrade(clean, self.parameters(keys), keys, origin, size)

    def variants(self) -> dict[str, Degradation]:
        """Return the settings that are tested, by label: one per listed level (sigma 15, 25, 50), else this one."""
        return {"": self}
