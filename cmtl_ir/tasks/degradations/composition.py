"""Several degradations, one after another."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import WithJsonSchema, field_validator
from torch import Tensor

from cmtl_ir.base.keyed import substream, uniform
from cmtl_ir.base.problems import Problem
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.strategy.making import part_from
from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded

PartFields = Annotated[
    dict[str, Any],
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["name"]}]}),
]
"""A name or {name: ..., field: value}, stored with every field."""


@register
class Composition(Graded):
    """Several degradations in sequence; by default low light, rain, snow, haze in this order (OneRestore, ECCV 2024).

    Each part draws its own numbers. In YAML:
    `{degradation: composition, parts: [haze, {name: jpeg, quality: [10, 30]}]}`.
    """

    severities: ClassVar[Mapping[str, Any]] = {}

    parts: tuple[PartFields, ...] = (
        {"name": "low_light", "gamma": [2.0, 3.0], "gain": [1.0, 1.0]},
        {"name": "rain_streaks"},
        {"name": "snow"},
        {"name": "haze", "beta": [1.0, 2.0], "airlight": [0.6, 0.9]},
    )
    """Names or {name: ..., field: value}, in order (OneRestore: low light, rain, snow, haze)."""
    order: Literal["given", "random"] = "given"
    """given: the order of `parts`. random: each sample draws its own order (as BSRGAN shuffles its operations)."""

    @field_validator("parts", mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> tuple[dict[str, Any], ...]:
        if not isinstance(given, list | tuple):
            raise ValueError("expected a list of degradations")
        if not given:
            raise ValueError("the list is empty; name one degradation or more, as in [haze]")
        problems: list[Problem] = []
        parts = [part_from("degradation", one, str(index), problems) for index, one in enumerate(given)]
        if problems:
            raise ValueError("; ".join(map(str, problems)))
        return tuple({"name": part.called, **part.model_dump(mode="json")} for part in parts if part is not None)

    @cached_property
    def degradations(self) -> tuple[Degradation, ...]:
        """The parts, made from their names and fields."""
        return tuple(cast(Degradation, part_from("degradation", part, "", [])) for part in self.parts)

    def prepare(self) -> None:
        for part in self.degradations:
            part.prepare()

    @classmethod
    def fields_at(cls, level: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the composition with every part at one severity and its other fields at their defaults."""
        parts = []
        for part in cls(**fields).parts:
            kind = registry.load("degradation", part["name"])
            if not issubclass(kind, Graded):
                raise ValueError(f"severity: the part {part['name']} has none; give its fields instead")
            parts.append({"name": part["name"], **kind.at_severity(level).model_dump(mode="json")})
        return {**fields, "parts": parts}

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        count = len(self.degradations)
        order = torch.arange(count, device=keys.device).expand(len(keys), count)
        if self.order == "random":
            order = uniform(substream(keys, "order"), (count,)).argsort(1)
        drawn = {"order": order}  # [B, parts]: index of the first part, the second part ...
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
