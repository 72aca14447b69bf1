"""The base of all configuration records: frozen, validated, and documented field by field."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


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

    @model_serializer(mode="wrap")
    def _without_omitted(self, as_usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The fields as plain data, without those marked `OmitIfDefault` that have their default."""
        plain: dict[str, Any] = as_usual(self)
        for name, field in type(self).model_fields.items():
            marked = any(isinstance(mark, OmitIfDefault) for mark in field.metadata)
            if marked and getattr(self, name) == field.get_default(call_default_factory=True):
                plain.pop(name, None)
        return plain
