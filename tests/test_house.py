"""The plan of the house as a table: who may import whom. Imports point down, and there is no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED = {"cmtl_ir": "cmtl_ir", "strategies": "cmtl_ir.strategies", "analysis": "cmtl_ir.analysis"}

BELOW = {
    "base": "",
    "strategy": "base",
    "tracking": "base strategy",
    "processes": "base strategy",
    "store": "base strategy",
    "gradients": "base strategy",
    "tasks": "base strategy",
    "backbones": "base strategy",
    "config": "base strategy tasks backbones",
    "measures": "base strategy tasks backbones",
    "suites": "base strategy tasks backbones config measures",
    "training": "base strategy tasks backbones config measures gradients store",
    "runs": "base strategy tasks backbones config measures gradients store training tracking processes",
}
BELOW["grouping"] = BELOW["search"] = f"{BELOW['runs']} runs"
BELOW["unlearning"] = f"{BELOW['grouping']} grouping search"
BELOW["adaptation"] = f"{BELOW['unlearning']} unlearning"
BELOW["inference"] = f"{BELOW['adaptation']} adaptation suites"
BELOW["cli"] = f"{BELOW['inference']} inference analysis strategies face"
BELOW["strategies"] = "base strategy measures gradients unlearning"
BELOW["guests"] = f"{BELOW['strategies']} tasks config strategies"
BELOW["analysis"] = "base strategy config measures suites tracking store runs unlearning"
"""Room -> the rooms that it may import."""

PROBE_ALONE = {("strategies", "unlearning"): "cmtl_ir.unlearning.probe"}
"""Of some rooms one file alone may be imported."""
MOST_FILES, MOST_LINES, LONGEST = 20, 350, 50
INTERCHANGEABLE = ("backbones", "degradations", "curriculum", "weighting", "surgery", "retention", "objective",
                   "grouping", "unlearning", "adaptation")  # fmt: skip
"""Folders of one method per file; they may hold any number."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file of every module that is installed."""
    found = {}
    for folder, name in INSTALLED.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


def room(module: str) -> str:
    """The room of a module; that of the top level is its face."""
    parts = module.split(".")
    if parts[1:3] == ["strategies", "guests"]:
        return "guests"
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else "face"


def imports(module: str, path: Path, lazy: bool = True) -> Iterator[str]:
    """The modules of ours that a file imports; `lazy`: also inside functions and for type checkers."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield from (one for one in [full if full in modules() else origin] if one in modules())
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())


def test_no_import_points_upwards() -> None:
    wrong = []
    for module, path in modules().items():
        for other in imports(module, path):
            mine, theirs = room(module), room(other)
            if mine == theirs or mine == "face":
                continue
            alone = PROBE_ALONE.get((mine, theirs), other)
            if theirs not in BELOW[mine].split() or other != alone:
                wrong.append(f"{path.relative_to(ROOT)} imports {other}")
    assert wrong == []


def test_every_room_is_in_the_plan() -> None:
    assert {room(module) for module in modules()} - {"face"} <= set(BELOW)


def test_there_is_no_circle() -> None:
    graph = {module: set(imports(module, path, lazy=False)) - {module} for module, path in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_no_folder_holds_too_many_files() -> None:
    folders = {path.parent for path in modules().values()}
    full = {
        str(folder.relative_to(ROOT)): number
        for folder in folders
        if (number := len([*folder.glob("*.py")])) > MOST_FILES and folder.name not in INTERCHANGEABLE
    }
    assert full == {}


@pytest.mark.parametrize("folder", ["cmtl_ir", "strategies", "analysis", "tests"])
def test_files_and_functions_are_short(folder: str) -> None:
    long = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        if text.count("\n") > MOST_LINES:
            long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= LONGEST:
                long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1}")
    assert long == []
