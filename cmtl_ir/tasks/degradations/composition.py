"""Several degradations, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import field_validator
from torch import Tensor

from cmtl_ir import registry
from cmtl_ir.keyed import substream, uniform
from cmtl_ir.registry import register
from cmtl_ir.tasks.degradation import Degradation
from cmtl_ir.tasks.degradations._graded import Graded


def resolved(given: Any) -> dict[str, Any]:
    """A name or {name: ..., field: value} -> the same with every field written out."""
    fields = {"name": given} if isinstance(given, str) else dict(given)
    name = fields.pop("name")
    return {"name": name, **registry.load("degradation", name).model_validate(fields).model_dump(mode="json")}


def built(fields: Mapping[str, Any]) -> Degradation:
    """The degradation of a resolved record."""
    values = {field: value for field, value in fields.items() if field != "name"}
    part: Degradation = registry.load("degradation", fields["name"]).model_validate(values)
    return part


@register
class Composition(Graded):
    """Degradations in a row; by default low light, rain, snow, haze in this order (OneRestore, ECCV 2024, Eq. 1).

    Every part draws its own numbers. In YAML: `{degradation: composition, parts: [haze, {name: jpeg, quality: [10, 30]}]}`.
    """

    severities: ClassVar[Mapping[str, Any]] = {}

    parts: tuple[dict[str, Any], ...] = (
        {"name": "low_light", "gamma": [2.0, 3.0], "gain": [1.0, 1.0]},
        {"name": "rain_streaks"},
        {"name": "snow"},
        {"name": "haze", "beta": [1.0, 2.0], "airlight": [0.6, 0.9]},
    )
    """Names or {name: ..., field: value}, in order (OneRestore: low light, rain, snow, haze)."""
    order: Literal["given", "random"] = "given"
    """random: every sample has an order of its own (as BSRGAN shuffles its operations)."""

    @field_validator("parts", mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> tuple[dict[str, Any], ...]:
        return tuple(resolved(part) for part in given)

    @cached_property
    def degradations(self) -> tuple[Degradation, ...]:
        """The parts themselves."""
        return tuple(built(part) for part in self.parts)

    @classmethod
    def at_severity(cls, level: int, **fields: Any) -> Self:
        """Every part at that severity; a part's other fields are its defaults."""
        names = [part["name"] for part in cls(**fields).parts]
        parts = [{"name": name, **registry.load("degradation", name).at_severity(level).model_dump()} for name in names]
        return cls(**fields | {"parts": parts})

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        count = len(self.degradations)
        order = torch.arange(count, device=keys.device).expand(len(keys), count)
        if self.order == "random":
            order = uniform(substream(keys, "order"), (count,)).argsort(1)
        drawn = {"order": order}  # [B, parts]: which part comes first, second ...
        for index, part in enumerate(self.degradations):
            values = part.parameters(substream(keys, index))
            drawn |= {f"{index}.{name}": value for name, value in values.items()}
        return drawn

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        degraded = clean.clone()
        for turn in range(len(self.degradations)):
            for index, part in enumerate(self.degradations):
                chosen = (parameters["order"][:, turn] == index).nonzero()[:, 0]
                if len(chosen):
                    prefix = f"{index}."
                    own = {
                        name.removeprefix(prefix): value[chosen]
                        for name, value in parameters.items()
                        if name.startswith(prefix)
                    }
                    key = substream(keys[chosen], index)
                    degraded[chosen] = part.degrade(degraded[chosen], own, key, origin[chosen], size[chosen])
        return degraded
