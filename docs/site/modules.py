"""The modules of the package, read without importing them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = {"cmtl_ir": "cmtl_ir", "strategies": "cmtl_ir.strategies", "analysis": "cmtl_ir.analysis"}
"""Folder -> name under which it is installed."""


@dataclass(frozen=True)
class Module:
    """A module: dotted name, file, and its docstring."""

    name: str
    path: Path
    docstring: str

    @property
    def is_package(self) -> bool:
        """Whether this is a folder."""
        return self.path.name == "__init__.py"

    @property
    def is_private(self) -> bool:
        """Whether the file's name begins with an underscore, as in `_layers.py`."""
        return self.path.name.startswith("_") and not self.is_package

    @property
    def package(self) -> str:
        """Dotted name of the folder that the module lies in, or of the folder that it is."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def summary(self) -> str:
        """The first sentence of the docstring, on one line."""
        paragraph = " ".join(self.docstring.partition("\n\n")[0].split())
        return re.split(r"(?<=[.?!])\s+(?=[A-Z`])", paragraph)[0]


@cache
def modules() -> tuple[Module, ...]:
    """Return all modules: packages first in their folders, and files in alphabetical order."""
    found = []
    for folder, name in INSTALLED.items():
        for path in sorted((ROOT / folder).rglob("*.py"), key=lambda one: (one.parent, one.name != "__init__.py", one)):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            dotted = ".".join([name, *(part for part in parts if part != "__init__")])
            found.append(Module(dotted, path, ast.get_docstring(ast.parse(path.read_text())) or ""))
    return tuple(found)


def of_package(package: str) -> list[Module]:
    """Return the files of a folder, without its `__init__.py`."""
    return [one for one in modules() if one.package == package and not one.is_package]


def packages() -> list[Module]:
    """Return the folders."""
    return [one for one in modules() if one.is_package]
