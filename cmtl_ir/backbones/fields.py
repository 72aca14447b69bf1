"""The fields of a backbone, which are the keyword arguments of its constructor, and their validation."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, cast

from pydantic import BaseModel, ValidationError, create_model

from cmtl_ir import backbones
from cmtl_ir.base.problems import Problem, problems_of
from cmtl_ir.base.record import Record

LARGEST = 1 << 16
"""Largest whole number of a field. Building a network with more blocks or channels would not end."""


def signature_record(cls: type) -> type[Record]:
    """Return a record class whose fields are the keyword arguments of a class's constructor.

    It is made once for each class: Pydantic takes longer to make it than to validate with it.
    """
    return _signature_record(cast("Any", cls))  # type checkers find classes of modules unhashable


@functools.lru_cache(maxsize=128)
def _signature_record(cls: type) -> type[Record]:
    constructor = next(vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base))
    hints = typing.get_type_hints(constructor)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.default is not inspect.Parameter.empty:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (hints.get(parameter.name, Any), default)
    return create_model(f"{cls.__name__}Fields", __base__=Record, **fields)


def published_auxiliary(name: str) -> list[Any]:
    """Return the auxiliary objectives of a backbone's published training; none for an unknown name."""
    try:
        return [dict(one) for one in getattr(backbones.backbone_class(name), "published_auxiliary", ())]
    except (ValueError, ImportError):
        return []


def name_as_trained(name: str, auxiliary: Collection[str]) -> str:
    """Return a backbone's name, and what a run lacks of its published training: `airnet without ...`."""
    lacking = [one["name"] for one in published_auxiliary(name) if one["name"] not in auxiliary]
    return f"{name} without {' and '.join(lacking)}" if lacking else name


def backbone_fields(given: Any, problems: list[Problem]) -> dict[str, Any]:
    """Return the name and all constructor fields of a backbone. Mistakes are added to `problems`."""
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping) or not isinstance(fields.get("name"), str):
        problems.append(Problem("backbone", f"expected a name or {{name: ..., field: value}}, found {given!r}"))
        return {"name": "nafnet"}
    record: type[BaseModel] = Record
    try:
        record = signature_record(backbones.backbone_class(fields["name"]))
        made = record.model_validate({key: value for key, value in fields.items() if key != "name"})
        plain = made.model_dump(mode="json")
        lowest = -LARGEST if ".py:" in fields["name"] else 0  # a network of one's own may give them a meaning
        problems += [one for key, value in plain.items() for one in _out_of_range(f"backbone.{key}", value, lowest)]
        return {"name": fields["name"], **plain}
    except ValidationError as error:
        problems += problems_of(error, record, "backbone")
    except (ValueError, ImportError) as error:
        problems.append(Problem("backbone.name", str(error)))
    return {"name": fields["name"]}


def _out_of_range(path: str, value: Any, lowest: int) -> Iterator[Problem]:
    if isinstance(value, int) and not lowest <= value <= LARGEST:
        limits = f"at most {LARGEST:,}" if value > LARGEST else f"at least {lowest}"
        yield Problem(path, f"expected {limits}, found {value:,}")
    elif isinstance(value, list | Mapping):
        for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _out_of_range(f"{path}.{key}", one, lowest)
