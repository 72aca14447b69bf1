"""Make parts from YAML data. Validation errors become messages with paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import (
    ValidationError,
)

from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.record import Record
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.families import FAMILIES
from cmtl_ir.strategy.objective import NEEDS, SCHEDULE, Objective
from cmtl_ir.strategy.parts import Part


def part_from(family: str, given: Any, path: str, problems: list[Problem]) -> Part | None:
    """Return the part of a name or `{name: ..., field: value}`, or `None`. Mistakes are added to `problems`."""
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        problems.append(Problem(path, f"expected a name or {{name: ..., field: value}}, found {given!r}"))
        return None
    name = fields["name"].removeprefix(f"{family}/")
    cls: type[Any] = Record
    try:
        cls = registry.load(family, name)
        if family in FAMILIES and not issubclass(cls, FAMILIES[family].base()):
            contract = FAMILIES[family].contract
            raise ValueError(f"{name} is not of the family {family}: its class does not derive from {contract}")
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
    """Return name and fields of a part as plain data, or `None` for `None`."""
    return None if part is None else {"name": part.called, **part.model_dump(mode="json", by_alias=True)}


def auxiliary_objective(given: Any, path: str, problems: list[Problem]) -> Objective | None:
    """Return an auxiliary objective of a name or `{name: ..., field: value}`; mistakes are added to `problems`."""
    part = part_from("objective", given, path, problems)
    if isinstance(part, Objective):
        unknown = sorted(part.needs - NEEDS)
        if unknown:
            said = f"{part.called} needs {', '.join(unknown)}, which the engine does not know"
            problems.append(Problem(path, f"{said}; {suggestion(unknown[0], sorted(NEEDS))}"))
        if "pair" in part.needs:
            problems.append(Problem(path, f"{part.called} can only be the base objective, training.loss"))
        return part
    if part is not None:
        problems.append(Problem(path, f"{part.called} is a {part.family or 'part'}, not an objective"))
    return None


def base_objective(given: Any, path: str, problems: list[Problem]) -> Objective | None:
    """Return the base objective of a name or `{name: ..., field: value}`; mistakes are added to `problems`."""
    part = part_from("objective", given, path, problems)
    if part is None:
        return None
    if not isinstance(part, Objective):
        problems.append(Problem(path, f"{part.called} is a {part.family or 'part'}, not an objective"))
        return None
    further = sorted(part.needs - {"output", "pair"})
    if further:
        problems.append(Problem(path, f"{part.called} needs {', '.join(further)}; it can only be listed in auxiliary"))
    scheduled = part.model_fields_set & set(SCHEDULE)
    if scheduled:
        named = ", ".join(sorted("from" if name == "begin" else name for name in scheduled))
        problems.append(Problem(path, f"{named}: read under auxiliary only; the base objective always counts 1"))
    return part


def objective_part(given: Any, path: str) -> Objective:
    """Return the objective of a name or `{name: ..., field: value}`. Raise ConfigError listing its mistakes."""
    problems: list[Problem] = []
    part = part_from("objective", given, path, problems)
    if problems or not isinstance(part, Objective):
        raise ConfigError("; ".join(map(str, problems)) or f"{path}: {given!r} is not an objective")
    return part


def base_described(objective: Objective) -> str | dict[str, Any]:
    """Return a base objective as plain data: its bare name where it has no fields of its own."""
    fields = objective.model_dump(mode="json", exclude=set(SCHEDULE))
    return {"name": objective.called, **fields} if fields else objective.called


def objective_of(loss: str | Mapping[str, Any]) -> Objective:
    """Return the base objective of a validated `training.loss`. Raise ValueError where it is not one."""
    problems: list[Problem] = []
    part = base_objective(loss, "training.loss", problems)
    if problems or part is None:
        raise ValueError("; ".join(map(str, problems)))
    return part
