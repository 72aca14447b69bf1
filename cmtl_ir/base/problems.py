"""Mistakes in an experiment file, each with its path and a message."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from cmtl_ir.base import errors


@dataclass(frozen=True)
class Problem:
    """A mistake: its path in the file and how to fix it."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def problems_of(error: ValidationError, record: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Return the errors of pydantic as problems. For an unknown key, similar names are listed."""
    found = []
    for one in error.errors(include_url=False):
        path = ".".join([prefix, *map(str, one["loc"])]).strip(".")
        if one["type"] == "extra_forbidden":
            fields = _record_at(record, one["loc"][:-1]).model_fields
            known = [field.alias or name for name, field in fields.items()]
            found.append(Problem(path, f"unknown key; {errors.suggestion(str(one['loc'][-1]), known)}"))
        elif one["type"] == "missing":
            found.append(Problem(path, "is required"))
        else:
            told = isinstance(one["input"], Mapping | BaseModel) or ", found " in one["msg"]
            given = "" if told else f" (found {one['input']!r})"
            found.append(Problem(path, one["msg"].removeprefix("Value error, ") + given))
    return found


def _record_at(record: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    for key in location:
        field = record.model_fields.get(str(key))
        nested = list(_records_in(field.annotation)) if field else []
        record = nested[0] if nested else record
    return record


def _records_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the records in an annotation, such as those of `tuple[One, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _records_in(inner)
