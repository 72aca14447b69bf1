"""YAML 1.2 scalars: `1e-3` is a number, and `no` and `on` are strings. A duplicate key is an error."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from cmtl_ir.base.errors import ConfigError

DEEPEST, MOST_VALUES = 64, 100_000
"""Depth and number of values of a file above which it is refused. The largest file of an experiment has some 500."""

NULL_IS_A_VALUE = ("minutes", "window")
"""Keys whose null means something else than their absence, as in `checkpoint.minutes: null` (save by steps only)."""


class _Loader(yaml.SafeLoader):
    """Loads numbers and booleans as YAML 1.2 does. PyYAML implements YAML 1.1."""


class _Dumper(yaml.SafeDumper):
    """Writes short lists on one line, and keys in their given order."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":int", ":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    "-+0123456789.",
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}: the key {key!r} is given twice")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", items, flow_style=not any(isinstance(item, dict | list) for item in items)
    ),
)


def parse(text: str) -> Any:
    """Return the value of a YAML text. Raise ConfigError with the line if it is not valid YAML or too large."""
    try:
        loader = _Loader(text)  # a SafeLoader
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _measured(node, {}, 0)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{line}{error.problem}") from None
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"line {number}: the character {error.character:#04x} is not allowed in YAML; remove it"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of a number that Python does not convert
        raise ConfigError(str(error)) from None


def _measured(node: yaml.Node, known: dict[int, int], depth: int) -> int:
    """Return the number of values in a node, with each alias counted as what it stands for.

    Raise ConfigError if there are more than `MOST_VALUES`, if they are nested too deeply, or if a node contains itself.
    """
    if depth > DEEPEST:
        raise _too_deep(node)
    if isinstance(node, yaml.ScalarNode):
        return 1
    size = known.get(id(node))
    if size == 0:
        raise ConfigError(f"line {node.start_mark.line + 1}: an alias stands for a value that contains it")
    if size is None:
        known[id(node)] = 0
        inner = [part for one in node.value for part in (one if isinstance(one, tuple) else (one,))]
        size = known[id(node)] = 1 + sum(_measured(one, known, depth + 1) for one in inner)
    if size > MOST_VALUES:
        line = node.start_mark.line + 1
        raise ConfigError(f"line {line}: with its aliases (*name) written out, it has more than {MOST_VALUES:,} values")
    return size


def _too_deep(node: yaml.Node | None = None) -> ConfigError:
    line = f"line {node.start_mark.line + 1}: " if node is not None else ""
    return ConfigError(f"{line}values are nested more than {DEEPEST} deep")


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a file. Raise ConfigError with the file and line if there is none."""
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values at the top, found {type(content).__name__}")
    return content


def dump(value: Any) -> str:
    """Return a text that `parse` reads as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def merged(base: Mapping[str, Any], over: Mapping[str, Any], named: Collection[str] = ()) -> dict[str, Any]:
    """Merge two mappings deeply: mappings are merged by key, other values are replaced, null removes a key of `base`.

    Keys in `named` hold what a name decides: a mapping there is replaced as a whole by one with another `name`, because
    the fields of one name mean nothing to another. Null over a key in `NULL_IS_A_VALUE` replaces its value.
    """
    result = dict(base)
    for key, value in over.items():
        beneath = base.get(key)
        if value is None and key in base and key not in NULL_IS_A_VALUE:
            del result[key]
        elif isinstance(value, Mapping) and isinstance(beneath, Mapping):
            other = key in named and "name" in value and value["name"] != beneath.get("name", value["name"])
            result[key] = dict(value) if other else merged(beneath, value, named)
        else:
            result[key] = value
    return result
