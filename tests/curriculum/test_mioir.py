"""MiOIR's stage table and exposures, and the control that matches them."""

from __future__ import annotations

import pytest
from cmtl_ir.strategies.curriculum._stages import exposures
from cmtl_ir.strategies.curriculum.cumulative import Cumulative
from cmtl_ir.strategies.curriculum.joint import Joint
from cmtl_ir.strategies.curriculum.mixed_matched import MixedMatched
from cmtl_ir.strategies.curriculum.single import Single

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


def test_cumulative_of_one_task_is_single_with_four_cycles() -> None:
    (one,) = walk(Cumulative(), ("rain",), 400)
    (single,) = walk(Single(task="rain", cycles=4), ("rain",), 400)
    assert (one.mixture, one.steps, one.cycles) == (single.mixture, single.steps, single.cycles)


def test_the_last_stage_is_joint_training_with_four_cycles() -> None:
    last = walk(Cumulative(), MIOIR, 1000)[-1]
    (joint,) = walk(Joint(cycles=4), MIOIR, 400)
    assert (last.mixture, last.steps, last.cycles) == (joint.mixture, joint.steps, joint.cycles)


def test_the_order_moves_the_exposure() -> None:
    turned = walk(Cumulative(order="reverse"), MIOIR, 2_500_000, learner=Still(MIOIR))
    seen = exposures(turned)
    assert [seen[task] / 2.5e6 for task in reversed(MIOIR)] == pytest.approx(PUBLISHED_SHARES, abs=5.01e-4)
