"""The base of degradations with five graded severities, and keyed draws from ranges.

Legend of shapes: B samples, h x w pixels of a crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from cmtl_ir.base.keyed import integers, substream, uniform_between
from cmtl_ir.strategy.degradation import Degradation


class Graded(Degradation):
    """A degradation with five severities, for tests outside the training range."""

    severities: ClassVar[Mapping[str, Sequence[Any]]]
    """Field -> its value at severity 1 .. 5."""

    @classmethod
    def at_severity(cls, level: int, **fields: Any) -> Self:
        """Return the degradation at severity 1 (mild) .. 5 (harsh). `fields` overrides single fields."""
        if level not in range(1, 6):
            raise ValueError(f"a severity is 1, 2, 3, 4 or 5, not {level}")
        return cls(**{field: values[level - 1] for field, values in cls.severities.items()} | fields)


def drawn(keys: Tensor, purpose: str, limits: tuple[float, float]) -> Tensor:
    """Draw [B] uniform numbers on `limits`. Each purpose has independent numbers."""
    return uniform_between(substream(keys, purpose), *limits)


def drawn_whole(keys: Tensor, purpose: str, limits: tuple[int, int]) -> Tensor:
    """Draw [B] whole numbers low .. high, as float32."""
    return integers(substream(keys, purpose), limits[0], limits[1] + 1).to(torch.float32)


def spread(values: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1], to broadcast with images."""
    return values[:, None, None, None]
