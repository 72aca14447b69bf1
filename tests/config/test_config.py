"""Experiment files: what is wrong is said once, with its path and the nearest name; nothing is silently ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from cmtl_ir import backbones
from cmtl_ir.backbones.fields import signature_record
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.yaml import NULL_IS_A_VALUE
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import validate
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.families import FAMILIES
from tests import tiny

MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"trainin": {}}, ["trainin: unknown key; did you mean training?"]),
    "unknown nested key": ({"training": {"stpes": 3}}, ["training.stpes: unknown key; did you mean steps"]),
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


# --------------------------------------------------------------------------------------------------- layers of keys


def test_another_backbone_replaces_all_fields_of_the_one_beneath(tmp_path: Path) -> None:
    file = tmp_path / "child.yaml"
    file.write_text("extends: quickstart\nname: child\nbackbone: {name: restormer, heads: [1, 1, 1, 1]}\n")
    assert (
        (made := reading.load(file).backbone)["name"] == "restormer"
        and made["heads"] == [1, 1, 1, 1]
        and "encoder" not in made
    )
    made = reading.load("quickstart", ["backbone.name=restormer", "backbone.width=16"]).backbone
    assert made["name"] == "restormer" and made["width"] == 16
    same = reading.load("quickstart", ["backbone.name=nafnet", "backbone.width=4"]).backbone
    assert same == {**reading.load("quickstart").backbone, "width": 4}


def test_another_part_replaces_the_fields_of_the_one_beneath_and_another_optimizer_keeps_its_rate() -> None:
    base = {"strategies": {"one": {"surgery": {"name": "cagrad", "c": 0.2}}}, "optimizer": {"name": "adamw", "lr": 1.0}}
    made = reading.with_overrides(base, ["strategies.one.surgery.name=pcgrad", "optimizer.name=sgd", "name=other"])
    assert made["strategies"]["one"]["surgery"] == {"name": "pcgrad"}
    assert made["optimizer"] == {"name": "sgd", "lr": 1.0}


def test_null_removes_a_key_at_every_depth() -> None:
    made = reading.load(
        "quickstart", ["backbone.width=null", "backbone.encoder=null", "training.clip=null", "data=null"]
    )
    defaults = validate({"name": "x", "tasks": tiny.RAW["tasks"], "backbone": "nafnet"}, "x")
    assert made.backbone["width"] == defaults.backbone["width"]
    assert made.backbone["encoder"] == defaults.backbone["encoder"]
    assert made.training.clip is None and made.data == defaults.data
    with pytest.raises(ConfigError, match=r"evaluation\.tile"):
        reading.load("quickstart", ["evaluation.tile=null"])  # there is nothing to remove


def test_null_is_a_value_where_the_default_is_another_one() -> None:
    made = reading.with_overrides({"checkpoint": {"minutes": 5}}, ["checkpoint.minutes=null"])
    assert made == {"checkpoint": {"minutes": None}}
    parts = [registry.load(family, name) for family in FAMILIES for name in registry.names(family)]
    networks = [signature_record(backbones.backbone_class(name)) for name in backbones.shipped()]
    nested = [field.annotation for field in Experiment.model_fields.values()]
    records = [one for one in nested if isinstance(one, type) and issubclass(one, BaseModel)]
    known = {
        name
        for record in [*parts, *networks, *records]
        for name, field in record.model_fields.items()
        if type(None) in get_args(field.annotation) and not field.is_required() and field.get_default() is not None
    }
    assert known == set(NULL_IS_A_VALUE)
