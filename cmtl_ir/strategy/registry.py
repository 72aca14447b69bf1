"""name -> class, for every family of parts.

A name is looked up in the packages that the entry-point group `cmtl_ir.strategies` names: the part `pcgrad` of the
family `surgery` is the registered class of module `<package>.surgery.pcgrad`. So a file is found from its name and
the name from its file, nothing is imported before it is used, and a third party adds a package (or one class)
through the same group. `path/to/file.py:Class` names a class in a file.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import zlib
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from cmtl_ir.base.errors import UnknownName, suggestion
from cmtl_ir.strategy.families import FAMILIES

ENTRY_POINT_GROUP = "cmtl_ir.strategies"

T = TypeVar("T", bound=type)
_registered: dict[str, dict[str, type]] = {}


def register(cls: T) -> T:
    """Class decorator: makes a part the one that its module offers, under the class's family."""
    _registered.setdefault(cls.__module__, {})[getattr(cls, "name", None) or snake_case(cls.__name__)] = cls
    return cls


def snake_case(name: str) -> str:
    """Pcgrad -> pcgrad, GaussianNoise -> gaussian_noise, NashMtl -> nash_mtl."""
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name).lower()


@cache
def _guests() -> list[EntryPoint]:
    """Return the entry points of the group. They are read once per process: it means reading a file per package."""
    return list(entry_points(group=ENTRY_POINT_GROUP))


@cache
def _packages(family: str) -> list[str]:
    home = FAMILIES[family].package if family in FAMILIES else None
    guests = [f"{point.value}.{family}" for point in _guests() if ":" not in point.value]
    return guests if home is None else [home, *guests]


@cache
def names(family: str) -> list[str]:
    """Every name of a family, sorted, without importing the parts."""
    found = {f"{point.name}" for point in _guests() if ":" in point.value and point.name.startswith(f"{family}.")}
    found = {name.removeprefix(f"{family}.") for name in found}
    for package in _packages(family):
        if importlib.util.find_spec(package) is not None:
            paths = importlib.import_module(package).__path__
            found |= {module.name for module in pkgutil.iter_modules(paths) if not module.name.startswith("_")}
    return sorted(found)


def load(family: str, name: str) -> type:
    """The class of that name. Raises UnknownName with near names; ValueError for a file without such a class."""
    if ".py:" in name:
        return _from_file(family, name)
    prefix, colon, foreign = name.partition(":")
    if colon:
        return _from_library(family, prefix, foreign)
    for point in _guests():
        if point.name == f"{family}.{name}" and ":" in point.value:
            return point.load()
    for package in _packages(family):
        if name in names(family) and importlib.util.find_spec(f"{package}.{name}") is not None:
            return _offered(importlib.import_module(f"{package}.{name}"), name)
    raise UnknownName(f"unknown {family} {name!r}: {suggestion(name, names(family))}")


def _offered(module: ModuleType, name: str) -> type:
    classes = _registered.get(module.__name__, {})
    if len(classes) == 1:
        return next(iter(classes.values()))
    if name in classes:
        return classes[name]
    raise ValueError(f"{module.__file__} registers {sorted(classes) or 'nothing'}; it should register {name!r}")


@cache
def _from_file(family: str, name: str) -> type:
    file, _, class_name = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"{family} {name!r}: no file {path}")
    module = _module_of(path)
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise ValueError(f"{family} {name!r}: {path} has no class {class_name!r}; {suggestion(class_name, classes)}")
    return found


def _module_of(path: Path) -> ModuleType:
    """The file as a module that is known to the interpreter: dataclasses in it, and `inspect`, look for it there."""
    name = f"cmtl_ir_user_{path.stem}_{zlib.crc32(str(path.absolute()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def hosts() -> dict[str, Any]:
    """Library -> the module of a package that makes parts of its classes.

    Such a module has `FAMILY`, `names()`, and `host(family, name)`, which makes the class.
    """
    found = {}
    for package in [f"{point.value}.guests" for point in _guests() if ":" not in point.value]:
        if importlib.util.find_spec(package) is None:
            continue
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            library = module.name.rpartition(".")[2]
            if library not in FAMILIES and not library.startswith("_"):
                found[library] = importlib.import_module(module.name)
    return {library: module for library, module in found.items() if hasattr(module, "host")}


def _from_library(family: str, library: str, foreign: str) -> type:
    """`torchjd:UPGrad`, `avalanche:EWCPlugin`: the package's module of that library makes the class."""
    if library not in hosts():
        raise UnknownName(f"unknown library {library!r} in {family} {library}:{foreign}; known: {', '.join(hosts())}")
    return hosts()[library].host(family, foreign)
