"""Orders of tasks: listed, reversed, explicit, random, by entropy and by affinity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.keyed import name_key
from cmtl_ir.strategies.curriculum._entropy import luminance_entropy
from cmtl_ir.strategies.curriculum._order import affinity_order
from cmtl_ir.strategies.curriculum.sequential import Sequential
from tests import tiny

from .cases import MIOIR, Still, history, walk

TASKS = ("haze", "rain", "noise")


def order_of(part: Sequential, tasks: tuple[str, ...] = TASKS, learner: Still | None = None) -> list[str]:
    return [stage.name for stage in walk(part, tasks, 900, learner=learner)]


def test_listed_reverse_and_explicit() -> None:
    assert order_of(Sequential()) == ["haze", "rain", "noise"]
    assert order_of(Sequential(order="reverse")) == ["noise", "rain", "haze"]
    assert order_of(Sequential(order=["rain", "noise", "haze"])) == ["rain", "noise", "haze"]


def test_an_explicit_order_may_name_tasks_that_a_groups_run_lacks() -> None:
    part = Sequential(order=["rain", "blur", "noise", "haze"])
    assert order_of(part) == ["rain", "noise", "haze"] and list(part.named_tasks()) == part.order


@pytest.mark.error("strategy: an order that does not name every task once")
def test_an_explicit_order_names_every_task_once() -> None:
    with pytest.raises(ConfigError, match=r"curriculum.order: noise missing"):
        order_of(Sequential(order=["rain", "haze"]))
    with pytest.raises(ValidationError, match="once"):
        Sequential(order=["rain", "rain"])
    with pytest.raises(ValidationError):
        Sequential(order="alphabetical")


def test_random_depends_on_the_seed_and_the_names_only() -> None:
    orders = {seed: order_of(Sequential(order="random"), MIOIR, Still(MIOIR, seed)) for seed in range(20)}
    assert len({tuple(order) for order in orders.values()}) > 15
    assert orders[3] == sorted(MIOIR, key=lambda task: name_key(3, "order", task))
    turned = order_of(Sequential(order="random"), MIOIR[::-1], Still(MIOIR, 3))
    without = order_of(Sequential(order="random"), MIOIR[1:], Still(MIOIR, 3))
    assert turned == orders[3] and without == [task for task in orders[3] if task != MIOIR[0]]


# ------------------------------------------------------------------------------------------------------- entropy


def test_entropy_by_hand() -> None:
    flat, halves, quarters = torch.full((3, 4, 4), 0.5), torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    halves[:, :2] = 1.0  # two levels, each half of the pixels: 1 bit
    for level in range(4):
        quarters[:, level] = level / 4  # four levels: 2 bits
    bits = luminance_entropy(torch.stack([flat, halves, quarters]))
    assert bits.tolist() == pytest.approx([0.0, 1.0, 2.0])
    colour = torch.zeros(1, 3, 4, 4)
    colour[:, 0] = 0.5  # luminance .299 * .5 everywhere
    assert luminance_entropy(colour).item() == 0.0


def test_absolute_and_signed_entropy_order_differently() -> None:
    """Clean: two levels (1 bit). a: flat (-1), b: three levels (+.5), c: the same (0)."""
    two, three = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    two[:, :, :2] = 1.0
    three[:, :, 0], three[:, :, 1] = 1.0, 0.5

    class Pairs(Still):
        def batch(self, task, ids):  # type: ignore[no-untyped-def]
            made = super().batch(task, ids)
            return type(made)(task, ids, made.degraded, two.expand(len(ids), -1, -1, -1))

    learner = Pairs(("a", "b", "c"), images={"a": torch.zeros(1, 3, 4, 4), "b": three, "c": two})
    absolute, signed = (Sequential(order="entropy_difference", entropy=kind) for kind in ("absolute", "signed"))
    assert order_of(absolute, ("a", "b", "c"), learner) == ["c", "b", "a"]
    assert learner.looked == {task: list(range(500)) for task in "abc"}  # once, however often it is asked
    assert order_of(signed, ("a", "b", "c"), learner) == ["a", "c", "b"]


def test_entropy_on_real_degradations_moves_no_counter() -> None:
    learner = tiny.learner({"curriculum": {"name": "sequential", "order": "entropy_difference", "entropy_pairs": 60}})
    part = learner.strategy.curriculum
    stage = part.next_stage(learner.history())
    assert stage is not None and learner.data.counters == {}
    assert sorted(part.state["order"]) == ["haze", "noise", "rain"]


# ------------------------------------------------------------------------------------------------------ affinity


def matrix_file(folder: Path, matrix: dict[str, dict[str, float]]) -> str:
    path = folder / "affinity.json"
    path.write_text(json.dumps(matrix))
    return str(path)


def test_affinity_by_hand(tmp_path: Path) -> None:
    # matrix[a][b] = b helps a. rain helps the others most (.5 + .1); then noise (.5 > .1); haze is left
    matrix = {
        "haze": {"rain": 0.1, "noise": 0.4}, "rain": {"haze": 0.2, "noise": 0.1}, "noise": {"haze": 0.1, "rain": 0.5},
    }  # fmt: skip
    assert order_of(Sequential(order="affinity", affinity=matrix_file(tmp_path, matrix))) == ["rain", "noise", "haze"]
    transposed = {a: {b: matrix[b][a] for b in matrix if b != a} for a in matrix}
    assert affinity_order(transposed, TASKS) != ["rain", "noise", "haze"]


def test_the_matrix_s_values_and_not_its_file_are_the_identity(tmp_path: Path) -> None:
    matrix = {"haze": {"rain": 0.1}, "rain": {"haze": 0.2}}
    given, read = (Sequential(order="affinity", affinity=one) for one in (matrix, matrix_file(tmp_path, matrix)))
    assert given == read and read.model_dump(mode="json")["affinity"] == matrix


@pytest.mark.error("strategy: an affinity matrix that cannot be used")
def test_affinity_without_a_usable_matrix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.json").write_text("{")
    for given, words in [
        (None, "needs the field `affinity`"),
        (str(tmp_path / "missing.json"), "No such file"),
        (str(tmp_path / "none.json"), "cannot read .*none.json"),
        ([1], "valid dictionary"),
    ]:
        with pytest.raises(ValidationError, match=words):
            Sequential(order="affinity", affinity=given)
    with pytest.raises(ConfigError, match="lacks haze <- noise"):
        Sequential(order="affinity", affinity={"haze": {"rain": 0.1}}).next_stage(history(TASKS, 900))
