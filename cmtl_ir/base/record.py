"""The base of all configuration records: frozen, validated, and documented field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

LARGEST = 2**63 - 1
"""Largest whole number of a field, by magnitude."""


class OmitIfDefault:
    """Mark of a field that plain data leave out while it has its default: `x: Annotated[int | None, OmitIfDefault()]`.

    For every field that is added to a record after runs were made with it: their identity, and so their hash, must not
    change. The default of such a field must never change either.
    """


class Record(BaseModel):
    """Frozen hyper-parameters. An unknown key is an error; a field's docstring is its help text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=False,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _as_it_is_written(cls, given: Any, info: ValidationInfo) -> Any:
        """Refuse a value of another kind than the field's, such as `true` for a number or one value for a list."""
        field = cls.model_fields.get(info.field_name or "")
        converted = field is not None and any(isinstance(mark, BeforeValidator) for mark in field.metadata)
        if field is not None and not converted and (said := _needs_a_list(_alternatives(field.annotation), given)):
            raise ValueError(said)
        if field is not None and (said := _misread(_alternatives(field.annotation), given)) is not None:
            raise ValueError(said)
        return given

    @model_serializer(mode="wrap")
    def _without_omitted(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields as plain data, without those marked `OmitIfDefault` that have their default."""
        plain: dict[str, Any] = as_usual(self)
        for name, field in type(self).model_fields.items():
            marked = any(isinstance(mark, OmitIfDefault) for mark in field.metadata)
            if marked and getattr(self, name) == field.get_default(call_default_factory=True):
                plain.pop(name, None)
        return plain


def _misread(kinds: Sequence[Any], given: Any) -> str | None:
    """Return why Pydantic would read a value of one of these types as something else than what is written.

    `None` if it would not.
    """
    if isinstance(given, list | tuple):
        inner = _inside(kinds, Sequence)
        given = given if inner else ()
        return next((said for one in given if (said := _misread(inner, one)) is not None), None)
    if isinstance(given, Mapping):
        inner = _inside(kinds, Mapping)
        given = given if inner else {}
        return next((said for one in given.values() if (said := _misread(inner, one)) is not None), None)
    if isinstance(given, bool):
        is_number = bool not in kinds and (int in kinds or float in kinds)
        return f"expected a number, found {given!r}" if is_number else None
    if isinstance(given, int) and abs(given) > LARGEST:
        return f"expected a number of at most {LARGEST:,} in magnitude"
    if isinstance(given, int | float | str) and bool in kinds and not {int, float, str} & set(kinds):
        return f"expected true or false, found {given!r}"
    return None


def _needs_a_list(kinds: Sequence[Any], given: Any) -> str | None:
    """Return how to write a single value where only a list is accepted; `None` if it may stand alone."""
    lists = [kind for kind in kinds if isinstance(get_origin(kind), type) and issubclass(get_origin(kind), Sequence)]
    alone = [kind for kind in kinds if kind not in lists and kind is not type(None)]
    if not lists or alone or not isinstance(given, int | float | str):
        return None
    inner = get_args(lists[0])
    fixed = get_origin(lists[0]) is tuple and ... not in inner and len(inner) > 1
    if fixed:
        return f"expected a list of {len(inner)} values, found {given!r}"
    return f"expected a list, found {given!r}: write [{given}]"


def _inside(kinds: Sequence[Any], container: type) -> list[Any]:
    """Return the types of the values in those of `kinds` that are sequences, or mappings."""
    found: list[Any] = []
    for kind in kinds:
        origin = get_origin(kind)
        if isinstance(origin, type) and issubclass(origin, container):
            arguments = get_args(kind)[1:] if container is Mapping else get_args(kind)
            found += [inner for one in arguments if one is not ... for inner in _alternatives(one)]
    return found


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types of a union, without marks; the type itself if it is no union."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for one in get_args(annotation) for kind in _alternatives(one)]
    return [annotation]
