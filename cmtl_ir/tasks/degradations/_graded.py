"""The base of degradations with five graded severities, and keyed draws from ranges.

Legend of shapes: B samples, h x w pixels of a crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import model_validator
from torch import Tensor

from cmtl_ir.base.keyed import integers, substream, uniform_between
from cmtl_ir.strategy.degradation import Degradation

LEVELS = (1, 2, 3, 4, 5)
"""The severities, from mild to harsh."""


class Graded(Degradation):
    """A degradation with five severities. In YAML, `severity: 3` stands for the fields that it sets."""

    severities: ClassVar[Mapping[str, Sequence[Any]]]
    """Field -> its value at severity 1 .. 5."""

    @model_validator(mode="before")
    @classmethod
    def _severity_by_number(cls, given: Any) -> Any:
        """Replace the key `severity` by the fields that it sets. They are stored, the number is not."""
        if not isinstance(given, Mapping) or "severity" not in given or "severity" in cls.model_fields:
            return given
        fields = dict(given)
        return cls.fields_at(fields.pop("severity"), fields)

    @classmethod
    def fields_at(cls, level: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields at a severity, with further `fields`. Raise ValueError if one of these is set by it."""
        if isinstance(level, bool) or level not in LEVELS:
            raise ValueError(f"a severity is 1, 2, 3, 4 or 5, not {level}")
        if both := sorted(set(cls.severities) & set(fields)):
            raise ValueError(f"severity: sets {', '.join(both)}, which is given too; leave out one of the two")
        return {field: values[level - 1] for field, values in cls.severities.items()} | dict(fields)

    @classmethod
    def at_severity(cls, level: int, **fields: Any) -> Self:
        """Return the degradation at severity 1 (mild) .. 5 (harsh). `fields` are fields that no severity sets."""
        return cls(**cls.fields_at(level, fields))


def drawn(keys: Tensor, purpose: str, limits: tuple[float, float]) -> Tensor:
    """Draw [B] uniform numbers on `limits`. Each purpose has independent numbers."""
    return uniform_between(substream(keys, purpose), *limits)


def drawn_whole(keys: Tensor, purpose: str, limits: tuple[int, int]) -> Tensor:
    """Draw [B] whole numbers low .. high, as float32."""
    return integers(substream(keys, purpose), limits[0], limits[1] + 1).to(torch.float32)


def spread(values: Tensor) -> Tensor:
    """Reshape [B] to [B, 1, 1, 1], to broadcast with images."""
    return values[:, None, None, None]
