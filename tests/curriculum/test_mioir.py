"""MiOIR's stage table and exposures, and the control that matches them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cmtl_ir.strategies.curriculum._stages import exposures
from cmtl_ir.strategies.curriculum.cumulative import Cumulative
from cmtl_ir.strategies.curriculum.joint import Joint
from cmtl_ir.strategies.curriculum.mixed_matched import MixedMatched
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.shares import DataState
from tests import tiny

from .cases import MIOIR, Still, walk

PUBLISHED_SHARES = [0.302, 0.202, 0.152, 0.119, 0.094, 0.074, 0.057]
PUBLISHED_SRRESNET = [0.755, 0.505, 0.380, 0.297, 0.235, 0.185, 0.143]  # million iterations


def test_mioirs_stage_table() -> None:
    """SRResNet: L = 250k, six stages of L and a last of 4 L with 4 restarts; 2.5 M iterations in all."""
    stages = walk(Cumulative(), MIOIR, 2_500_000)
    assert [stage.steps for stage in stages] == [250_000] * 6 + [1_000_000]
    for i, stage in enumerate(stages):
        assert stage.mixture == dict.fromkeys(MIOIR[: i + 1], 1 / (i + 1)) and stage.name == MIOIR[i]
    assert all(stage.fresh_optimizer for stage in stages)
    assert [stage.cycles for stage in stages] == [1] * 6 + [4]


def test_exposures_are_the_published_ones() -> None:
    seen = exposures(walk(Cumulative(), MIOIR, 2_500_000))
    assert [seen[task] / 1e6 for task in MIOIR] == pytest.approx(PUBLISHED_SRRESNET, abs=5.01e-4)
    assert [seen[task] / 2.5e6 for task in MIOIR] == pytest.approx(PUBLISHED_SHARES, abs=5.01e-4)
    assert exposures(walk(Joint(), MIOIR, 2_500_000))["sr"] / 1e6 == pytest.approx(0.357, abs=5e-4)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_exposure_formula(count: int) -> None:
    """e_j = L (sum_{i=j}^{K-1} 1/i + 4/K)."""
    seen = exposures(walk(Cumulative(), MIOIR[:count], 1000 * (count + 3)))
    for j, task in enumerate(MIOIR[:count], start=1):
        assert seen[task] == pytest.approx(1000 * (sum(1 / i for i in range(j, count)) + 4 / count))


@pytest.mark.parametrize(("count", "steps"), [(7, 2_500_000), (7, 901), (3, 100), (1, 50)])
def test_mixed_matched_has_the_same_exposures_lengths_and_restarts(count: int, steps: int) -> None:
    curriculum, control = (walk(part, MIOIR[:count], steps) for part in (Cumulative(), MixedMatched()))
    assert exposures(control) == pytest.approx(exposures(curriculum), rel=1e-12)
    assert len({tuple(stage.mixture.values()) for stage in control}) == 1
    for mine, other in zip(control, curriculum, strict=True):
        assert (mine.steps, mine.cycles, mine.fresh_optimizer) == (other.steps, other.cycles, True)


def test_mixed_matched_shares() -> None:
    mixture = walk(MixedMatched(), MIOIR, 2_500_000)[0].mixture
    assert [mixture[task] for task in MIOIR] == pytest.approx(PUBLISHED_SHARES, abs=5.01e-4)


def test_the_order_moves_the_exposure() -> None:
    turned = walk(Cumulative(order="reverse"), MIOIR, 2_500_000, learner=Still(MIOIR))
    seen = exposures(turned)
    assert [seen[task] / 2.5e6 for task in reversed(MIOIR)] == pytest.approx(PUBLISHED_SHARES, abs=5.01e-4)


# ------------------------------------------------------------------------------------------ the same weights, trained

PLAIN: dict[str, Any] = {"training": {"steps": 14}, "conflict": {"every": 0}}  # L = 2: stages of 2, 2 and 10 steps
LAST = 10


class Parent(tiny.Silent):
    """Keeps what the last stage starts from: its parent's result."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: dict[str, Any] = {}

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        if len(learner.finished) == 2:
            self.tree = copy.deepcopy(learner.tree())


def test_the_last_stage_is_joint_training_from_its_parents_result_bit_for_bit() -> None:
    """Weights, data counters and global step of stage K - 1; 4 restarts; a fresh optimizer; the same rows and tier."""
    whole, parent = tiny.learner({"curriculum": {"name": "cumulative", "last": 5}}, **PLAIN), Parent()
    train(whole, parent)
    joint = tiny.learner({"curriculum": {"name": "joint", "cycles": 4}}, **{**PLAIN, "training": {"steps": LAST}})
    joint.model.load_state_dict(parent.tree["model"])
    joint.data = DataState(dict(parent.tree["data"]["counters"]))
    joint.step = parent.tree["step"]
    assert joint.step == 4 and joint.data.counters == {"noise": 12 + 6, "rain": 6}
    train(joint, tiny.Silent())
    assert joint.data.counters == whole.data.counters
    assert tiny.same(tiny.weights(joint), tiny.weights(whole))


def test_cumulative_of_one_task_is_single_with_four_restarts_bit_for_bit() -> None:
    alone = {**PLAIN, "tasks": {"rain": None, "haze": None}, "training": {"steps": 8}}
    ends = []
    for curriculum in ({"name": "cumulative"}, {"name": "single", "task": "noise", "cycles": 4}):
        learner = tiny.learner({"curriculum": curriculum}, **alone)
        train(learner, tiny.Silent())
        ends.append(tiny.weights(learner))
    once = tiny.learner({"curriculum": {"name": "single", "task": "noise"}}, **alone)
    train(once, tiny.Silent())
    assert tiny.same(*ends) and not tiny.same(ends[0], tiny.weights(once))
