"""A run that begins with tasks learnt is the rest of the run that learnt them, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.training import probing
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny
from tests.curriculum.cases import Still
from tests.retention import cases

TWO: dict[str, Any] = {"tasks": {"haze": None}, "conflict": {"every": 0}}
EQUAL = ["agem", "degradation_replay", "der", "distill", "ewc", "freeze", "l2", "lira", "mas", "replay"]
"""Retentions that know of a learnt task what they know of a trained one, whose 12 samples a memory of 12 holds."""


class Ends(tiny.Silent):
    """Keeps the weights at the end of each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[dict[str, Tensor]] = []

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self.weights.append(tiny.weights(learner))


def whole(strategy: dict[str, Any], steps: int, **overrides: Any) -> list[dict[str, Tensor]]:
    """The weights at the end of each stage of a run from initial weights."""
    learner, ends = tiny.learner(strategy, **{**TWO, "training": {"steps": steps}, **overrides}), Ends()
    train(learner, ends)
    return ends.weights


def rest(strategy: dict[str, Any], steps: int, begin: dict[str, Tensor], learned: tuple[str, ...], **more: Any) -> Ends:
    """What is left to learn, from these weights."""
    learner, ends = tiny.learner(strategy, **{**TWO, "training": {"steps": steps}, **more}), Ends()
    learner.model.load_state_dict(begin)
    learner.learned = learned
    train(learner, ends)
    assert learner.finished[0].name == "learned" and learner.step == steps
    return ends


@pytest.mark.parametrize("label", EQUAL)
def test_the_rest_under_a_retention_is_the_second_stage(label: str) -> None:
    strategy = cases.strategy(label)
    first, second = whole(strategy, 4)
    begun = rest(strategy, 2, first, ("noise",))
    assert tiny.same(begun.weights[0], first) and tiny.same(begun.weights[1], second)
    assert not tiny.same(first, second)


@pytest.mark.parametrize("strategy", [{"curriculum": "sequential"}, cases.strategy("l2")])
def test_the_rest_after_two_tasks_is_the_third_stage(strategy: dict[str, Any]) -> None:
    three: dict[str, Any] = {"tasks": {}}
    _, second, third = whole(strategy, 6, **three)
    assert tiny.same(rest(strategy, 2, second, ("noise", "rain"), **three).weights[1], third)


@pytest.mark.error("start: a retention that must see the training")
def test_a_method_that_must_see_the_training_is_refused_before_it() -> None:
    learner = tiny.learner(cases.strategy("si"), **TWO)
    learner.learned = ("noise",)
    with pytest.raises(ConfigError, match="cannot protect noise, which the weights of `start` already know; use ewc"):
        train(learner, tiny.Silent())

    def know(fresh: Learner) -> None:
        fresh.learned = ("noise",)

    experiment = tiny.experiment({"one": cases.strategy("si")}, **TWO)
    found = probing.faults_of(
        experiment, experiment.strategies["one"], learner.task_of, 0, torch.device("cpu"), start=know
    )
    assert len(found) == 1 and "si measures importance while a task is trained" in found[0]


# --------------------------------------------------------------------------------------------------------- curricula


def walk(given: Any, learned: tuple[str, ...], left: tuple[str, ...], steps: int = 12) -> list[dict[str, float]]:
    """The mixtures of all stages."""
    curriculum: Curriculum = tiny.experiment({"one": {"curriculum": given}}).strategies["one"].curriculum
    curriculum.reset()
    stages: list[Stage] = []
    learner: Any = Still((*learned, *left))
    while True:
        sizes = dict.fromkeys((*learned, *left), 10)
        stage = curriculum.next_stage(History(left, steps, tuple(stages), sizes, learner, learned))
        if stage is None:
            assert sum(one.steps for one in stages) == steps
            return [dict(one.mixture) for one in stages]
        stages.append(stage)


def test_curricula_go_on_with_the_tasks_that_are_left() -> None:
    learned, left = ("noise",), ("rain", "haze")
    assert walk("sequential", learned, left) == [{"rain": 1.0}, {"haze": 1.0}]
    assert walk({"name": "sequential", "order": ["haze", "noise", "rain"]}, learned, left) == [
        {"haze": 1.0},
        {"rain": 1.0},
    ]
    assert walk({"name": "review", "order": "listed"}, learned, left) == [{"rain": 1.0}, {"haze": 1.0}]
    assert len(walk({"name": "interleaved", "rounds": 2}, learned, left)) == 4


def test_curricula_that_mix_tasks_mix_those_learnt_too() -> None:
    learned, left = ("noise",), ("rain", "haze")
    half, third = {"noise": 0.5, "rain": 0.5}, dict.fromkeys(("noise", "rain", "haze"), 1 / 3)
    assert walk("cumulative", learned, left) == [half, third]
    assert walk("joint", learned, left) == [third]
    assert walk({"name": "single", "task": "noise"}, learned, left) == [{"noise": 1.0}]
