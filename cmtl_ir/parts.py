"""Making parts from what a YAML file says, and turning validation errors into sentences with paths."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from cmtl_ir import backbones, registry
from cmtl_ir.records import Record
from cmtl_ir.strategy import Part


@dataclass(frozen=True)
class Problem:
    """One mistake: where in the file, and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def problems_of(error: ValidationError, record: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Pydantic's errors as problems; an unknown key gets its near names."""
    found = []
    for one in error.errors(include_url=False):
        path = ".".join([prefix, *map(str, one["loc"])]).strip(".")
        if one["type"] == "extra_forbidden":
            known = list(_record_at(record, one["loc"][:-1]).model_fields)
            found.append(Problem(path, f"unknown key; {registry.suggestion(str(one['loc'][-1]), known)}"))
        elif one["type"] == "missing":
            found.append(Problem(path, "is required"))
        else:
            given = "" if isinstance(one["input"], Mapping | BaseModel) else f" (found {one['input']!r})"
            found.append(Problem(path, one["msg"].removeprefix("Value error, ") + given))
    return found


def _record_at(record: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for key in location:
        field = record.model_fields.get(str(key))
        kinds = [field.annotation, *typing.get_args(field.annotation)] if field else []
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        record = nested[0] if nested else record
    return record


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
        part: Part = cls.model_validate({key: value for key, value in fields.items() if key != "name"})
    except ValidationError as error:
        problems += problems_of(error, cls, path)
        return None
    except (ValueError, ImportError) as error:
        problems.append(Problem(path, str(error)))
        return None
    part.call_it(name)
    return part


def signature_record(cls: type) -> type[Record]:
    """A record with the keyword arguments of a class's constructor as its fields."""
    constructor = next(vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base))
    hints = typing.get_type_hints(constructor)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return create_model(f"{cls.__name__}Fields", __base__=Record, **fields)


def backbone_fields(given: Any, problems: list[Problem]) -> dict[str, Any]:
    """Name and fully resolved constructor fields of the backbone; mistakes are added to `problems`."""
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        problems.append(Problem("backbone", f"expected a name or {{name: ..., field: value}}, found {given!r}"))
        return {"name": "nafnet"}
    record: type[BaseModel] = Record
    try:
        record = signature_record(backbones.backbone_class(fields["name"]))
        made = record.model_validate({key: value for key, value in fields.items() if key != "name"})
        return {"name": fields["name"], **made.model_dump(mode="json")}
    except ValidationError as error:
        problems += problems_of(error, record, "backbone")
    except (ValueError, ImportError) as error:
        problems.append(Problem("backbone.name", str(error)))
    return {"name": fields["name"]}
