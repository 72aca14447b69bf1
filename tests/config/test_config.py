"""Experiment files: what is wrong is said once, with its path and the nearest name; nothing is silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config import reading
from tests import tiny

MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"trainin": {}}, ["trainin: unknown key; did you mean training?"]),
    "unknown nested key": ({"training": {"stpes": 3}}, ["training.stpes: unknown key; did you mean steps?"]),
    "wrong type": ({"training": {"steps": "many"}}, ["training.steps", "valid integer", "'many'"]),
    "negative rate": ({"training": {"optimizer": {"lr": -1}}}, ["training.optimizer.lr", "greater than 0"]),
    "unknown surgery": ({"strategies": {"a": {"surgery": "pcgrd"}}}, ["strategies.a.surgery", "did you mean pcgrad"]),
    "unknown field of a part": (
        {"strategies": {"a": {"curriculum": {"name": "sequential", "ordr": "listed"}}}},
        ["strategies.a.curriculum.ordr: unknown key; did you mean order?"],
    ),
    "unknown part": ({"strategies": {"a": {"curriculm": "joint"}}}, ["strategies.a.curriculm", "mean curriculum?"]),
    "part without name": ({"strategies": {"a": {"surgery": {"c": 1}}}}, ["strategies.a.surgery", "expected a name"]),
    "unknown degradation": ({"tasks": {"rain": {"degradation": "rain_streak"}}}, ["tasks.rain", "rain_streaks"]),
    "unknown field of a degradation": (
        {"tasks": {"rain": {"degradation": "rain_streaks", "lenght": 3}}},
        ["tasks.rain.lenght", "length"],
    ),
    "unknown backbone": ({"backbone": {"name": "nafnett"}}, ["backbone.name", "nafnet"]),
    "unknown field of a backbone": ({"backbone": {"widht": 3}}, ["backbone.widht", "width"]),
    "a task that a curriculum does not know": (
        {"strategies": {"a": {"curriculum": {"name": "single", "task": "snow"}}}},
        ["strategies.a.curriculum", "unknown task 'snow'"],
    ),
    "task name": ({"tasks": {"Rain!": {"degradation": "haze"}}}, ["tasks", "Rain!"]),
    "a seed twice": ({"seeds": [1, 1]}, ["seeds", "twice"]),
}


@pytest.mark.error("configuration: {mistake}")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_path_and_the_way_out(mistake: str) -> None:
    change, words = MISTAKES[mistake]
    raw = reading.merged({**tiny.RAW, "strategies": {"joint": {}}}, change)
    with pytest.raises(ConfigError) as error:
        reading.validate(raw, "file.yaml")
    assert str(error.value).startswith("file.yaml:")
    for word in words:
        assert word in str(error.value)


def test_all_mistakes_come_at_once() -> None:
    raw = {**tiny.RAW, "trainin": 1, "strategies": {"a": {"surgery": "pcgrd"}}, "backbone": {"name": "nafnet", "w": 1}}
    with pytest.raises(ConfigError) as error:
        reading.validate(raw, "file.yaml")
    assert len(str(error.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("-3", -3), ("0", 0), ("true", True), ("no", "no"), ("on", "on"),
     ("010", "010"), ("12:30:45", "12:30:45"), ("2026-11-24", "2026-11-24"), ("null", None), ("1_000", "1_000"),
     ("[15, 25.5]", [15, 25.5])],
)  # fmt: skip
def test_scalars_are_read_as_people_mean_them(text: str, value: Any) -> None:
    read = yaml.parse(text)
    assert read == value and type(read) is type(value)


@pytest.mark.error("configuration: a key given twice")
def test_a_key_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text("name: a\ntasks: {}\nname: b\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml: line 3: the key 'name' is given twice"):
        reading.load(file)


@pytest.mark.error("configuration: broken YAML")
def test_broken_yaml_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("name: a\ntasks: [1, 2\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml: line \d"):
        reading.load(file)


@pytest.mark.error("configuration: a missing file")
def test_a_missing_file_offers_the_shipped_experiment() -> None:
    with pytest.raises(ConfigError, match="cmtl-ir run quickstart"):
        reading.load("quickstart.yaml")
    with pytest.raises(ConfigError, match="did you mean quickstart"):
        reading.load("quickstrat")


def test_extends_merges_deeply_and_null_removes(tmp_path: Path) -> None:
    file = tmp_path / "child.yaml"
    file.write_text("extends: quickstart\nname: child\ntraining: {steps: 7}\ntasks: {haze: null}\n")
    child, parent = reading.load(file), reading.load("quickstart")
    assert child.training.steps == 7 and child.training.batch == parent.training.batch
    assert list(child.tasks) == ["noise", "rain"] and list(child.strategies) == list(parent.strategies)


@pytest.mark.error("configuration: a file that extends itself")
def test_a_file_that_extends_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "loop.yaml"
    file.write_text("extends: loop.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        reading.load(file)


@pytest.mark.error("configuration: a --set that is no override")
def test_overrides_reach_any_key_and_are_checked_like_the_file() -> None:
    made = reading.load("quickstart", ["training.optimizer.lr=1e-5", "strategies.joint.surgery=pcgrad", "seeds=[3, 4]"])
    assert made.training.optimizer.lr == 1e-5 and made.seeds == [3, 4]
    assert made.strategies["joint"].surgery is not None
    with pytest.raises(ConfigError, match=r"training\.step: unknown key"):
        reading.load("quickstart", ["training.step=3"])
    with pytest.raises(ConfigError, match="expected path=value"):
        reading.load("quickstart", ["training.steps"])


@pytest.mark.parametrize("name", sorted(reading.shipped_experiments()))
def test_a_resolved_experiment_reads_back_as_itself(name: str) -> None:
    raw = reading.read_raw(reading.shipped_experiments()[name])
    if {"search", "tune", "unlearning"} & set(raw):
        pytest.skip("read by its own command")
    made = reading.load(name)
    again = reading.validate(yaml.parse(yaml.dump(made.resolved())), "again")
    assert again.resolved() == made.resolved()


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny.experiment().training.steps = 5  # type: ignore[misc]
