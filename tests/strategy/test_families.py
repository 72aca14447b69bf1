"""A family of parts is one line of a table and a folder: nothing else of the suite is touched for it."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.strategy import registry

ROOT = Path(__file__).parents[2]
TABLE = "cmtl_ir/strategy/families.py"
FOLDER = "cmtl_ir/strategies/flavour"
LINE = '    Family("flavour", "cmtl_ir.strategies.flavour._contract:Flavour", key="flavours", many=True),\n'
CONTRACT = """
from typing import ClassVar
from cmtl_ir.strategy import Part

class Flavour(Part):
    family: ClassVar[str] = "flavour"
"""
SWEET = """
from cmtl_ir.strategies.flavour._contract import Flavour
from cmtl_ir.strategy.registry import register

@register
class Sweet(Flavour):
    '''As sweet as sugar.'''

    spoons: int = 2
"""
PROBE = """
import json
from cmtl_ir.config import catalogue, schema
from cmtl_ir.config.reading import validate

raw = {"name": "n", "tasks": {"noise": {"degradation": "gaussian_noise"}}}
def strategy(**keys):
    return validate({**raw, "strategies": {"one": keys}}, "probe").strategies["one"]
try:
    strategy(flavours=["swet", "sweet", {"name": "sweet", "spons": 1}])
except Exception as error:
    wrong = str(error)
print(json.dumps({
    "absent": strategy().resolved(),
    "given": strategy(flavours=["sweet", {"name": "sweet", "spoons": 3}]).fresh().resolved()["flavours"],
    "listed": catalogue.families()["flavour"],
    "completed": catalogue.all_names(),
    "described": catalogue.describe("flavour/sweet").text,
    "schema": schema.json_schema()["$defs"]["Strategy"]["properties"],
    "wrong": wrong,
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite as it would be installed, with one family more."""
    home = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "cmtl_ir", home / "cmtl_ir", ignore=ignore)
    for room in ("strategies", "analysis", "experiments"):
        shutil.copytree(ROOT / room, home / "cmtl_ir" / room, ignore=ignore)
    table, folder = home / TABLE, home / FOLDER
    table.write_text(table.read_text().replace("_TABLE = (\n", f"_TABLE = (\n{LINE}"))
    folder.mkdir()
    for name, text in {"__init__": "", "_contract": CONTRACT, "sweet": SWEET}.items():
        (folder / f"{name}.py").write_text(text)
    return home


@pytest.fixture(scope="module")
def answer(copy: Path) -> dict[str, Any]:
    """What the changed suite says of the new family."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_table_is_the_only_file_that_changed(copy: Path) -> None:
    changed = []
    for room, home in (("cmtl_ir", "cmtl_ir"), ("strategies", "cmtl_ir/strategies"), ("analysis", "cmtl_ir/analysis")):
        for file in (ROOT / room).rglob("*.py"):
            other = copy / home / file.relative_to(ROOT / room)
            if not filecmp.cmp(file, other, shallow=False):
                changed.append(f"{home}/{file.relative_to(ROOT / room)}")
    assert changed == [TABLE]


def test_a_strategy_takes_its_parts(answer: dict[str, Any]) -> None:
    assert answer["given"] == [{"name": "sweet", "spoons": 2}, {"name": "sweet", "spoons": 3}]


def test_older_runs_do_not_hear_of_it(answer: dict[str, Any]) -> None:
    assert list(answer["absent"]) == ["curriculum", "weighting", "surgery", "retention", "grouping"]


def test_mistakes_are_found_with_their_place(answer: dict[str, Any]) -> None:
    assert "strategies.one.flavours[0]: unknown flavour 'swet'" in answer["wrong"]
    assert "strategies.one.flavours[2].spons" in answer["wrong"]


def test_list_describe_completion_and_schema_know_it(answer: dict[str, Any]) -> None:
    assert answer["listed"] == ["sweet"] and "sweet" in answer["completed"]
    assert answer["described"] == "As sweet as sugar."
    part = {"$ref": "#/$defs/flavour"}
    assert answer["schema"]["flavours"]["anyOf"] == [part, {"type": "array", "items": part}, {"type": "null"}]


def test_installed_packages_are_searched_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search reads a file of every installed package, which took more time than the rest of an experiment."""
    groups: list[str] = []
    real = registry.entry_points
    monkeypatch.setattr(registry, "entry_points", lambda group: groups.append(group) or real(group=group))
    registry._guests.cache_clear()
    registry._packages.cache_clear()
    assert {registry.load("surgery", name).__name__ for name in ("pcgrad", "mgda", "pcgrad")} == {"Pcgrad", "Mgda"}
    assert groups == [registry.ENTRY_POINT_GROUP]
