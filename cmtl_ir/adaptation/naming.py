"""Adapters as the command line names them: `NAME`, `NAME:field=value,...` or `file.py:Class:field=value,...`."""

from __future__ import annotations

import re

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.reading import with_overrides
from cmtl_ir.strategy.adaptation import Adapter
from cmtl_ir.strategy.making import part_from

CONTROLS = ("none", "self_ensemble")
"""Adapters that every table holds."""
_NAMED = re.compile(r"((?:.*?\.py:)?[^:]+)(?::(.*))?", re.DOTALL)


def adapter_from(text: str) -> Adapter:
    """Return the adapter of `NAME[:field=value,...]`, whose values are YAML. Raise UserError with every mistake."""
    found = _NAMED.fullmatch(text)
    if found is None:
        raise UserError(f"--adapt {text!r}: expected NAME or NAME:field=value, as in consistency:steps=3")
    name, fields = found[1], found[2]
    problems: list[Problem] = []
    try:
        given = with_overrides({}, _pieces(fields) if fields else [])
    except ConfigError as error:
        raise UserError(f"--adapt {text}: expected NAME:field=value, as in consistency:steps=3") from error
    part = part_from("adaptation", {**given, "name": name}, f"--adapt {name}", problems)
    if problems or not isinstance(part, Adapter):
        raise UserError("\n".join(map(str, problems)))
    return part


def columns_of(texts: list[str]) -> dict[str, Adapter]:
    """Return label -> adapter: the controls `none` and `self_ensemble`, then those named. A label is what was given."""
    return {text: adapter_from(text) for text in dict.fromkeys([*CONTROLS, *texts])}


def _pieces(fields: str) -> list[str]:
    """Return the parts between the commas that are outside brackets and quotes."""
    pieces, depth, quote = [""], 0, ""
    for letter in fields:
        if quote or letter in "\"'":
            quote = letter if not quote else "" if letter == quote else quote
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and depth == 0 and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces
