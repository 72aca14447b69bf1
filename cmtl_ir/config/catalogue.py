"""Everything that has a name: for `list`, `describe`, `schema` and shell completion."""

from __future__ import annotations

import fnmatch
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.backbones.fields import signature_record
from cmtl_ir.backbones.sources import SOURCES
from cmtl_ir.base import errors
from cmtl_ir.base.errors import UserError
from cmtl_ir.config.reading import shipped_experiments
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.families import FAMILIES
from cmtl_ir.strategy.parts import Part


@dataclass(frozen=True)
class Description:
    """The description of one name."""

    family: str
    name: str
    text: str
    fields: list[tuple[str, str, str, str]]
    """(field, type, default, help)"""
    cost: str
    where: str
    """File that holds the code."""
    facts: str = ""
    """Prototype, size, license, sides and further inputs of a backbone, a fact per line."""
    bibtex: str = ""
    """BibTeX that a part from outside this package brings."""


def families() -> dict[str, list[str]]:
    """Return the names of each family, with backbones and experiments. Empty families are left out."""
    found = {family: registry.names(family) for family in FAMILIES}
    found |= {
        "backbone": backbones.shipped(),
        "experiment": sorted(shipped_experiments()),
    }
    return {family: names for family, names in found.items() if names}


def guests(pattern: str = "*") -> dict[str, list[str]]:
    """Return, per library, the matching names of its classes that can serve as parts, as in `avalanche:EWCPlugin`."""
    named = {library: [f"{library}:{name}" for name in host.names()] for library, host in registry.hosts().items()}
    found = {library: fnmatch.filter(names, pattern) for library, names in named.items()}
    return {library: names for library, names in found.items() if names}


def all_names() -> list[str]:
    """Return every name, and `family/name` for a name of several families."""
    flat = [(family, name) for family, names in families().items() for name in names]
    plain = [name for _, name in flat]
    return sorted({name if plain.count(name) == 1 else f"{family}/{name}" for family, name in flat})


def matching(pattern: str) -> dict[str, dict[str, str]]:
    """Return family -> name -> first sentence for the names that match a shell pattern."""
    found: dict[str, dict[str, str]] = {}
    for family, names in families().items():
        kept = [name for name in names if fnmatch.fnmatch(name, pattern)]
        if kept:
            found[family] = {name: _first_line(family, name) for name in kept}
    return found


def _first_line(family: str, name: str) -> str:
    if family == "experiment":
        lines = shipped_experiments()[name].read_text().splitlines()
        return lines[0].lstrip("# ") if lines and lines[0].startswith("#") else ""
    line = (inspect.getdoc(_class(family, name)) or "").split("\n")[0]
    return f"({SOURCES[name].prototype}) {line}" if family == "backbone" and name in SOURCES else line


def _class(family: str, name: str) -> type:
    return backbones.backbone_class(name) if family == "backbone" else registry.load(family, name)


def describe(name: str) -> Description:
    """Describe a name, `family/name`, `library:NAME` or `file.py:Class`. Raise UserError with similar names."""
    if ":" in name:
        return _described(*_from_outside(name))
    wanted_family, _, bare = name.rpartition("/")
    for family, names in families().items():
        if family != "experiment" and wanted_family in ("", family) and bare in names:
            return _described(family, bare, _class(family, bare))
    raise UserError(f"nothing is called {name!r}; {errors.suggestion(name, all_names())}")


def _described(family: str, name: str, cls: Any) -> Description:
    record = signature_record(cls) if family == "backbone" else cls
    cost = cls.cost if issubclass(cls, Part) and FAMILIES[family].in_steps else None
    said = f"{cost.backward_passes} backward pass(es) a step; extra memory: {cost.memory}" if cost else ""
    if cost and cost.forward_passes != "0":
        said = f"{cost.forward_passes} more forward pass(es); {said}"
    where = inspect.getsourcefile(getattr(cls, "guest", cls)) or ""
    cite = inspect.cleandoc(getattr(cls, "bibtex", ""))
    facts = _facts(name) if family == "backbone" else ""
    return Description(family, name, inspect.getdoc(cls) or "", _fields(record), said, where, facts, cite)


def _facts(name: str) -> str:
    """Return what is known about a shipped network, with its number of parameters; empty for others."""
    if name not in SOURCES:
        return ""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = backbones.build(name)
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"parameters with the default fields: {count:,}\n{SOURCES[name]}"


def _from_outside(name: str) -> tuple[str, str, type]:
    """Return (family, name, class) of a class of a library or of a file."""
    host = registry.hosts().get(name.partition(":")[0])
    try:
        cls = registry.load(host.FAMILY if host else "part", name)
    except (ValueError, ImportError) as error:
        raise UserError(str(error)) from error
    if issubclass(cls, Part) and cls.family:
        return cls.family, name, cls
    if issubclass(cls, nn.Module):
        return "backbone", name, cls
    raise UserError(f"{name} is no part, degradation or backbone")


def _fields(record: Any) -> list[tuple[str, str, str, str]]:
    properties = record.model_json_schema().get("properties", {})
    described = []
    for field, info in record.model_fields.items():
        kind = getattr(info.annotation, "__name__", None) if not hasattr(info.annotation, "__args__") else None
        annotation = kind or str(info.annotation).replace("typing.", "")
        default = (
            "required"
            if info.is_required()
            else repr(properties.get(info.alias or field, {}).get("default", info.default))
        )
        described.append((info.alias or field, annotation, default, info.description or ""))
    return described
