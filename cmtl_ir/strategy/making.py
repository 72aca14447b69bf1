"""Making parts from what a YAML file says, and turning validation errors into sentences with paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    ValidationError,
)

from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.record import Record
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.families import FAMILIES
from cmtl_ir.strategy.parts import Part


def part_from(family: str, given: Any, path: str, problems: list[Problem]) -> Part | None:
    """A part from a name or `{name: ..., field: value}`; mistakes are added to `problems`."""
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        problems.append(Problem(path, f"expected a name or {{name: ..., field: value}}, found {given!r}"))
        return None
    name = fields["name"].removeprefix(f"{family}/")
    cls: type[Any] = Record
    try:
        cls = registry.load(family, name)
        if family in FAMILIES and not issubclass(cls, FAMILIES[family].base()):
            raise ValueError(f"{name} is not a {family}: its class does not derive from {FAMILIES[family].contract}")
        part: Part = cls.model_validate({key: value for key, value in fields.items() if key != "name"})
    except ValidationError as error:
        problems += problems_of(error, cls, path)
        return None
    except (ValueError, ImportError) as error:
        problems.append(Problem(path, str(error)))
        return None
    part.call_it(name)
    return part


def described(part: Part | None) -> dict[str, Any] | None:
    """Name and fields of a part as plain data; None stays None."""
    return None if part is None else {"name": part.called, **part.model_dump(mode="json")}
