"""The `search:` block: what it means, and how mistakes in it are answered before anything trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config import reading
from cmtl_ir.search import config as search_config
from cmtl_ir.search.config import Plan
from cmtl_ir.search.space import assigned, parameter_of
from tests import tiny

ART = {"strategy.weighting.temperature": {"float": [0.05, 2.0], "log": True}}


def plans(tmp_path: Path, search: Any, *overrides: str, **raw: Any) -> list[Plan]:
    file = tmp_path / "one.yaml"
    file.write_text(yaml.dump({**tiny.RAW, "data": {**tiny.RAW["data"], "val": 0.2}, **raw, "search": search}))
    return search_config.load(str(file), overrides)


@pytest.mark.parametrize("name", [n for n in reading.shipped_experiments() if n.startswith("searches/")])
def test_every_shipped_search_is_valid_to_its_last_choice(name: str) -> None:
    assert search_config.load(name)


def test_a_search_has_the_name_of_its_file_beside_that_of_its_base() -> None:
    assert search_config.load("searches/art")[0].name == "quickstart-art"
    assert search_config.load("searches/art", ["name=mine"])[0].name == "mine"
    each = [plan.name for plan in search_config.load("searches/learning_rate")]
    assert each[0] == "quickstart-learning_rate-joint" and len(set(each)) == len(each) >= 3


@pytest.mark.error("search: a mistake in a search")
@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"space": {"training.stesp": {"int": [1, 2]}}}, r"training\.stesp: unknown key; did you mean steps"),
        ({"space": {"training.steps": {"int": [2, 1]}}}, r"training\.steps: int: expected \[low, high\]"),
        ({"space": {"training.steps": {"integer": [1, 2]}}}, r"expected \{float: \[low, high\]\}"),
        ({"space": {"training.steps": {"int": [1, 2], "lgo": True}}}, r"lgo: unknown key; did you mean log"),
        ({"space": {"training.optimizer.lr": {"float": [0.0, 1.0], "log": True}}}, "log: needs low > 0"),
        ({"space": {"strategy.surgery": {"choice": [None, "pcgrda"]}}}, "did you mean pcgrad"),
        ({"space": ART, "strategy": {"weighting": "equal"}}, r"strategies\.trial\.weighting\.temperature: unknown key"),
        ({"space": ART, "strategy": "jiont"}, "no strategy 'jiont'; did you mean joint"),
        ({"space": ART, "objectives": {"mean_pnsr": "maximize"}}, "did you mean mean_psnr"),
        ({"space": ART, "objectives": {"forgetting_db": "maximize"}}, "the direction is minimize, not maximize"),
        ({"space": ART, "objectives": ["mean_psnr", "forgetting_db"], "pruner": "MedianPruner"}, "several objectives"),
        ({"space": ART, "trails": 3}, "search.trails: unknown key; did you mean trials"),
        ({"space": {**ART, "strategy.weighting": {"choice": ["art", "dwa"]}}}, "belongs inside a choice of"),
        ({}, "search.space: is required"),
    ],
)
def test_mistakes_are_answered_with_their_path(tmp_path: Path, search: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plans(tmp_path, {"strategy": {"weighting": "art"}, **search}, strategies={"joint": {}})


@pytest.mark.error("search: run of a search, or search of an experiment")
def test_run_and_search_know_each_others_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a search: `cmtl-ir search searches/art`"):
        reading.load("searches/art")
    with pytest.raises(ConfigError, match="has no `search:` block; `cmtl-ir run quickstart`"):
        search_config.load("quickstart")


def test_a_choice_may_be_a_part_with_ranges_of_its_own(tmp_path: Path) -> None:
    weighting = {"choice": ["equal", {"name": "art", "temperature": {"float": [0.1, 1.0]}, "momentum": 0.5}]}
    (plan,) = plans(tmp_path, {"space": {"strategy.weighting": weighting}})
    name = "strategy.weighting[art].temperature"
    values = plan.values(optuna.trial.FixedTrial({"strategy.weighting": "art", name: 0.3}))
    made = plan.experiment(values, "x").strategies["x"].weighting
    assert made.called == "art" and made.model_dump()["temperature"] == 0.3 and made.model_dump()["momentum"] == 0.5
    equal = plan.values(optuna.trial.FixedTrial({"strategy.weighting": "equal"}))  # no temperature is drawn
    assert plan.experiment(equal, "x").strategies["x"].weighting.called == "equal"


def test_a_path_goes_through_names_and_absent_keys() -> None:
    raw = {"training": {"schedule": "cosine"}, "strategy": {"weighting": "art"}}
    raw = assigned(raw, ["strategy", "weighting", "temperature"], 0.3)
    raw = assigned(raw, ["training", "schedule", "floor"], 0.1)
    raw = assigned(raw, ["training", "optimizer", "lr"], 0.2)
    assert raw == {
        "training": {"schedule": {"name": "cosine", "floor": 0.1}, "optimizer": {"lr": 0.2}},
        "strategy": {"weighting": {"name": "art", "temperature": 0.3}},
    }


def test_a_grid_ends_when_everything_was_tried(tmp_path: Path) -> None:
    space = {"strategy.surgery": {"choice": [None, "pcgrad"]}, "training.batch": {"int": [4, 8], "step": 2}}
    (plan,) = plans(tmp_path, {"space": space, "sampler": "BruteForceSampler", "trials": 50})
    assert plan.places == 6
    grid = {"name": "GridSampler", "search_space": {"training.batch": [4, 8]}}
    assert plans(tmp_path, {"space": space, "sampler": grid, "trials": 50})[0].places == 2
    assert (
        plans(tmp_path, {"space": ART, "strategy": {"weighting": "art"}, "sampler": "BruteForceSampler"})[0].places
        == 20
    )


def test_values_that_optuna_cannot_store_are_stored_as_text() -> None:
    parameter = parameter_of("x", {"choice": [[1, 2], {"a": 1}, None, "w"]}, [])
    assert parameter is not None
    drawn = [parameter.suggest(optuna.trial.FixedTrial({"x": label})) for label in ("[1, 2]", '{"a": 1}', None, "w")]
    assert drawn == [[1, 2], {"a": 1}, None, "w"]
