"""Curricula that choose data: worked values, and equality with joint training where they choose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.strategies.curriculum._losses import identity_losses
from cmtl_ir.strategies.curriculum.rebalance import Rebalance, rebalanced
from cmtl_ir.strategies.curriculum.severity_ramp import SeverityRamp
from cmtl_ir.strategies.curriculum.worst import Worst, worst_of
from cmtl_ir.strategy.data import Batch
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import Still, history

SHORT: dict[str, Any] = {"training": {"steps": 4, "batch": 6}, "data": {"patch": 8}}
GAIN = 1.0
"""dB between the gains of noise (.6) and of the other tasks (2.2, 1.6)."""
NEUTRAL: list[dict[str, Any]] = [
    {"name": "rebalance", "gamma": 0.0, "windows": 2},
    {"name": "worst", "share": 0.0},
    {"name": "severity_ramp", "until": 0.0},
    {"name": "unsatisfied", "thresholds": []},
    {"name": "unsatisfied", "thresholds": [99.0], "probe": 1, "samples": 1},
    {"name": "mixing_law", "proxy": 0.0},
]
ACTIVE: list[dict[str, Any]] = [
    {"name": "rebalance", "windows": 2},
    {"name": "worst", "length": 0.5, "harvest": 1.0},
    {"name": "severity_ramp", "stages": 2, "ids": 10},
    {"name": "unsatisfied", "share": 0.5, "thresholds": [GAIN, -99.0], "probe": 2, "samples": 2, "rate": 1.0},
]


def learner_of(curriculum: Mapping[str, Any]) -> Learner:
    return tiny.learner({"curriculum": dict(curriculum)}, **SHORT)


@pytest.fixture(scope="module")
def joint() -> dict[str, Tensor]:
    learner = tiny.learner({}, **SHORT)
    train(learner, tiny.Silent())
    return tiny.weights(learner)


@pytest.mark.parametrize("curriculum", NEUTRAL, ids=lambda one: one["name"])
def test_neutral_settings_are_joint_training(curriculum: dict[str, Any], joint: dict[str, Tensor]) -> None:
    learner = learner_of(curriculum)
    train(learner, tiny.Silent())
    assert tiny.same(tiny.weights(learner), joint)


@pytest.mark.parametrize("curriculum", ACTIVE, ids=lambda one: one["name"])
def test_a_resumed_run_chooses_the_same(curriculum: dict[str, Any], joint: dict[str, Tensor]) -> None:
    class Stop(tiny.Silent):
        def stepped(self, learner: Learner, result: Any, rate: float) -> None:
            if learner.step == 3:
                raise KeyboardInterrupt

    whole, stopped, again = (learner_of(curriculum) for _ in range(3))
    train(whole, tiny.Silent())
    with pytest.raises(KeyboardInterrupt):
        train(stopped, Stop())
    again.load_tree(stopped.tree())
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(again)) and not tiny.same(tiny.weights(whole), joint)


@pytest.mark.parametrize(
    ("gamma", "expected"),
    [(0, [1 / 3] * 3), (1, [0.2, 0.3, 0.5]), (2, [0.157025, 0.223140, 0.619835])],
)
def test_shares_follow_the_remaining_error(gamma: float, expected: list[float]) -> None:
    """Ratios .02, .03, .05. gamma 2: .105263 .236842 .657895 before the limits 1/6 and 2/3."""
    found = rebalanced({"a": 0.02, "b": 0.03, "c": 0.05}, gamma)
    assert list(found.values()) == pytest.approx(expected, abs=5e-7)


def test_the_losses_of_a_window_are_divided_by_those_of_its_degraded_images() -> None:
    """Clean images are 0: the degraded ones have the losses 2 and 1, the windows .5 and .5, so the ratios are 1 : 2."""

    class Alone(Still):
        def sample_losses(self, output: Any, batch: Batch) -> Tensor:
            return (output.restored - batch.clean).abs().mean((1, 2, 3))

    one, part = Alone(("a", "b"), images={"a": torch.tensor(2.0), "b": torch.tensor(1.0)}), Rebalance(windows=2)
    part.reset()
    first = part.next_stage(history(("a", "b"), 10, learner=one))
    assert first is not None and (first.steps, first.span) == (5, (0, 10))
    for task in ("a", "b"):
        part.observe(one.batch(task, torch.arange(4)), task, torch.tensor([0.2, 0.8, 0.5, 0.5]))
    second = part.next_stage(history(("a", "b"), 10, [first], learner=one))
    assert second is not None and second.span == (5, 10) and not second.fresh_optimizer
    assert second.mixture == pytest.approx({"a": 1 / 3, "b": 2 / 3})
    assert one.looked == {"a": [0, 1, 2, 3] * 2, "b": [0, 1, 2, 3] * 2}


def test_the_worst_samples_are_those_of_the_largest_losses_of_their_task() -> None:
    ids, losses = torch.arange(10, 20), torch.tensor([5.0, 1, 9, 2, 8, 3, 7, 4, 6, 0])
    assert worst_of(ids, losses, 0.3) == [12, 14, 16] and worst_of(ids, losses, 1.0) == list(range(10, 20))
    for choose, expected in (("worst", [7, 8, 9]), ("random", None)):
        part = Worst(choose=choose, harvest=1.0)
        part.reset()
        joint = part.next_stage(history(("a", "b"), 10))
        assert joint is not None and joint.steps == 7
        for task in ("a", "b"):
            batch = Still(("a", "b")).batch(task, torch.arange(10))
            part.observe(batch, task, torch.arange(10) * (1.0 if task == "a" else 1e-3))
        last = part.next_stage(history(("a", "b"), 10, [joint]))
        assert last is not None and last.mixture == {"a": 0.25, "b": 0.25, "worst:a": 0.25, "worst:b": 0.25}
        assert last.span == (7, 10) and part.next_stage(history(("a", "b"), 10, [joint, last])) is None
        assert all(len(found) == 3 and (expected is None or found == expected) for found in last.memory.values())


@pytest.mark.parametrize("reverse", [False, True])
def test_the_ramp_widens_from_the_mildest_samples(reverse: bool) -> None:
    learner = learner_of({"name": "severity_ramp"})
    part = SeverityRamp(ids=20, stages=2, reverse=reverse)
    part.reset()
    given: Any = learner
    first = part.next_stage(history(learner.tasks, 8, learner=given))
    assert first is not None and first.steps == 2 and len(first.memory["haze"]) == 2
    losses = identity_losses(learner, "haze", torch.arange(20))
    chosen = losses[list(first.memory["haze"])]
    rest = losses[[i for i in range(20) if i not in first.memory["haze"]]]
    assert chosen.min() >= rest.max() if reverse else chosen.max() <= rest.min()
    second = part.next_stage(history(learner.tasks, 8, [first], learner=given))
    assert second is not None and list(second.memory["haze"]) == list(range(20)) and second.span == (2, 8)
