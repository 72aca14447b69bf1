"""Which tensors a network takes from a file, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.weights_file import WeightsError, WeightsMisfit
from cmtl_ir.runs.begin.filling import fill
from tests import tiny

FIELDS: dict[str, Any] = tiny.RAW["backbone"]


def network(**fields: Any) -> nn.Module:
    return backbones.build(**{**FIELDS, **fields})


def filled(**fields: Any) -> dict[str, Tensor]:
    """Weights that no initialisation makes."""
    return {key: torch.full_like(value, 0.25) for key, value in network(**fields).state_dict().items()}


def taken(model: nn.Module) -> set[str]:
    return {key for key, value in model.state_dict().items() if bool((value == 0.25).all())}


def test_all_tensors_are_taken() -> None:
    model, content = network(), filled()
    assert fill(model, {f"module.{key}": value for key, value in content.items()}, [], "f") == len(content)
    assert taken(model) == set(content)


def test_what_is_allowed_keeps_its_values() -> None:
    model, content = network(), filled()
    before = model.state_dict()["ending.weight"].clone()
    del content["ending.weight"]
    content["ending.bias"] = torch.zeros(7)
    content["head.weight"] = torch.zeros(2)
    fill(model, content, ["ending.*", "head.*"], "f")
    assert taken(model) == set(content) - {"ending.bias", "head.weight"}
    assert torch.equal(model.state_dict()["ending.weight"], before)


def test_what_a_strategy_adds_need_not_be_in_the_file() -> None:
    """Experts of lira between the blocks, and heads of auxiliary objectives."""
    plain = filled()
    strategy = {"retention": "lira", "auxiliary": ["degradation_class"]}
    model = tiny.learner(strategy).model
    assert fill(model, plain, [], "f") == len(plain) == len(taken(model))
    again = tiny.learner(strategy).model
    fill(again, model.state_dict(), [], "f")
    assert tiny.same(again.state_dict(), model.state_dict())


def renamed(content: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("intro.", "intro1."): value for key, value in content.items()}


@pytest.mark.parametrize(
    ("cause", "content", "allow", "says"),
    [
        ("keys with other names", renamed(filled()), [], r"2 missing: intro\.weight \(near: intro1\.weight\)"),
        ("another width", filled(width=6), [], r"of another shape: intro\.weight \(6, 3, 3, 3\) instead"),
        ("more blocks", filled(middle=2), [], r"unexpected: middle_blks\.1\..*or name the tensors that may differ"),
        ("another backbone", {"conv.weight": torch.zeros(3)}, [], r"none of its 1 tensors has a .*set backbone to"),
        ("a pattern without a match", filled(), ["endin.*"], r"`allow` names 'endin\.\*', which matches no tensor"),
    ],
)  # fmt: skip
@pytest.mark.error("start: {cause}")
def test_what_does_not_fit_is_named(cause: str, content: dict[str, Tensor], allow: list[str], says: str) -> None:
    model = network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsMisfit, match=says):
        fill(model, content, allow, "mine.pth")
    assert tiny.same(model.state_dict(), before)


@pytest.mark.error("start: NaN in the weights")
def test_nan_is_refused() -> None:
    content = filled()
    content["intro.weight"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"mine\.pth holds values that no network can use: .*intro\.weight"):
        fill(network(), content, [], "mine.pth")


@pytest.mark.parametrize(
    ("cause", "start", "says"),
    [
        ("an unknown task", {"from": "a", "learned": ["nois"]}, r"start\.learned names the unknown task 'nois'; did"),
        ("all tasks learnt", {"from": "a", "learned": ["noise", "rain", "haze"]}, r"so nothing is left to learn"),
        ("a task learnt twice", {"from": "a", "learned": ["rain", "rain"]}, r"learned must name every task once"),
        ("an unknown key", {"form": "a"}, r"start\.form: unknown key; did you mean from"),
        ("neither run nor file", 3, r"expected a run, a file or \{from: \.\.\., learned: \[\.\.\.\]\}, found 3"),
        ("initial weights that know a task", {"from": "initial", "learned": ["rain"]}, r"leave out stage, allow and"),
    ],
)  # fmt: skip
@pytest.mark.error("start: {cause}")
def test_a_mistake_is_named_in_the_experiment_and_in_a_strategy(cause: str, start: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        tiny.experiment(start=start)
    with pytest.raises(ConfigError, match=f"strategies.one.{says}" if says.startswith("start") else says):
        tiny.experiment({"one": {"start": start}})
