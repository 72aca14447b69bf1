"""Grouped runs forget a task in those models that know it, and are reassembled afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.base.errors import UserError
from cmtl_ir.runs import comparison
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.lookup import find_run
from cmtl_ir.unlearning.requests import Answer, unlearn
from tests import tiny

from . import cases

GROUPED = {
    "pairs": {"grouping": {"name": "manual", "groups": [["noise"], ["rain", "haze"]], "routing": "oracle"}},
    "alone": {"grouping": {"name": "manual", "groups": [["noise", "rain"], ["haze"]], "routing": "oracle"}},
}
FEW = {"finetune": cases.method("finetune", steps=2), "retrain": cases.method("retrain")}


@pytest.fixture(scope="module")
def out(store: Path) -> Path:
    """A folder with two finished grouped runs."""
    quiet: dict[str, Any] = {"name": "groups", "evaluation": {"every": 0}, "conflict": {"every": 0}}
    assert not comparison.run(tiny.experiment(GROUPED, **quiet), store, "cpu").failures
    return store


@pytest.fixture(scope="module")
def forgot(out: Path) -> Answer:
    """`pairs` without haze."""
    return unlearn("groups/pairs", ["haze"], FEW, Workspace.at(out, "cpu"))


def groups(folder: Path) -> dict[str, str]:
    """Tasks of a model -> its run."""
    plan = json.loads((folder / "groups.json").read_text())
    return {"+".join(group["tasks"]): group["run"] for group in plan["groups"]}


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_only_the_model_that_knows_the_task_is_asked_to_forget_it(out: Path, forgot: Answer) -> None:
    before = groups(find_run("groups/pairs", out))
    (request,) = forgot.requests
    assert [one.hash for one in request.origins] == [before["rain+haze"]] and not request.failures
    assert {one.job.retained for one in request.done} == {("rain",)}


def test_each_method_leaves_a_grouped_run_with_the_other_models_as_they_were(out: Path, forgot: Answer) -> None:
    before = groups(find_run("groups/pairs", out))
    assert len(forgot.grouped) == len(FEW)
    for label, folder in zip(["retrain", "finetune"], forgot.grouped, strict=True):
        after = groups(folder)
        assert after["noise"] == before["noise"] and after["rain+haze"] != before["rain+haze"]
        assert find_run(f"groups.pairs-without-haze/{label}", out) == folder
        assert result(folder)["psnr"]["noise"] == result(find_run("groups/pairs", out))["psnr"]["noise"]


def test_a_second_request_goes_on_from_the_first(out: Path, forgot: Answer) -> None:
    del forgot
    again = unlearn("groups.pairs-without-haze/finetune", ["rain"], FEW, Workspace.at(out, "cpu"))
    assert again.requests == []  # its model knew haze and rain: nothing of it is left
    (left,) = again.grouped
    assert list(groups(left)) == ["noise"] and json.loads((left / "groups.json").read_text())["forgotten"] == [
        "haze",
        "rain",
    ]


def test_a_model_of_nothing_but_the_task_is_deleted_without_any_training(out: Path) -> None:
    before = groups(find_run("groups/alone", out))
    made = unlearn("groups/alone", ["haze"], FEW, Workspace.at(out, "cpu"))
    assert made.requests == []
    (left,) = made.grouped
    assert groups(left) == {"noise+rain": before["noise+rain"]} and set(result(left)["psnr"]) == {"noise", "rain"}


@pytest.mark.error("unlearn: what a grouped run cannot forget")
@pytest.mark.parametrize(
    ("forget", "words"),
    [(["fog"], "pairs never had 'fog'; it has noise, rain, haze"), (["noise", "rain", "haze"], "is all that")],
)
def test_what_a_grouped_run_cannot_forget(out: Path, forget: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        unlearn("groups/pairs", forget, FEW, Workspace.at(out, "cpu"))
