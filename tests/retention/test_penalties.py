"""Penalties on weights: zero at the start, positive afterwards, and the published formulas on two parameters."""

from __future__ import annotations

import pytest
import torch

from cmtl_ir.strategies.retention.ewc import EWC
from cmtl_ir.strategies.retention.l2 import L2
from cmtl_ir.strategies.retention.mas import MAS
from cmtl_ir.strategies.retention.si import SI
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import StepResult
from tests import tiny

from .cases import PENALTIES, SHORT, Affine, Bare, sequential, stage, strategy, trained


class Penalties(tiny.Silent):
    """Notes the penalty before a stage's first step and after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[float | None] = []
        self.after: list[list[float | None]] = []

    def now(self, learner: Learner) -> float | None:
        penalty = learner.strategy.retention.penalty(learner.model)
        return None if penalty is None else penalty.item()

    def stage_started(self, learner, stage) -> None:
        self.starts.append(self.now(learner))
        self.after.append([])

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        self.after[-1].append(self.now(learner))


@pytest.mark.parametrize("label", PENALTIES)
def test_it_is_exactly_0_at_the_start_of_the_second_stage_and_positive_after_one_step(label: str) -> None:
    learner, watcher = tiny.learner(strategy(label)), Penalties()
    train(learner, watcher)
    assert watcher.starts[:2] == [None, 0.0] and set(watcher.after[0]) == {None}
    assert all(value is not None and value > 0 for value in watcher.after[1])
    if label != "ewc":  # separate: the first stage's weights still pull
        assert watcher.starts[2] == 0.0
    assert len(learner.strategy.retention.state["anchors"]) == (3 if label == "ewc" else 1)


@pytest.mark.parametrize("label", PENALTIES)
def test_strength_0_is_sequential_bit_for_bit_and_1_is_not(label: str) -> None:
    plain, inert = sequential(), trained(strategy(label, strength=0.0), **SHORT)[0]
    assert tiny.same(tiny.weights(plain), tiny.weights(inert))
    held, _ = trained(strategy(label, strength=1.0), **SHORT)
    assert not tiny.same(tiny.weights(plain), tiny.weights(held))


def test_importance_is_measured_in_eval_mode_and_leaves_mode_counters_and_weights() -> None:
    learner = tiny.learner(strategy("ewc"))
    retention = learner.strategy.retention
    learner.model.train()
    modes = []
    learner.model.register_forward_hook(lambda module, *_: modes.append(module.training))
    before, counters = tiny.weights(learner), dict(learner.data.counters)
    retention.end_stage(stage("rain", "haze"), learner)
    assert learner.model.training and modes == [False] * 6
    assert tiny.same(before, tiny.weights(learner)) and learner.data.counters == counters
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def two_samples() -> Bare:
    """f(x) = 2 x + .5 on one-pixel images x = 1 and 3, targets 2 and 8."""
    images = torch.tensor([1.0, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    targets = torch.tensor([2.0, 8.0], dtype=torch.float64).view(2, 1, 1, 1)
    return Bare(Affine(2.0, 0.5), {"one": (images, targets)})


def test_mas_on_two_parameters() -> None:
    # |f(x) - x|^2 with f(x) - x = 1.5, 3.5: derivatives 2 (f - x) x = 3, 21 by a and 2 (f - x) = 3, 7 by b.
    learner, part = two_samples(), MAS(crops=2, strength=0.1)
    part.reset()
    part.end_stage(stage("one"), learner)
    mean = torch.tensor([12.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(part.state["anchors"][0]["importance"], mean / 8.5)
    part.end_stage(stage("one"), learner)  # a second stage adds its own, of mean 1
    torch.testing.assert_close(part.state["anchors"][0]["importance"], 2 * mean / 8.5)
    learner.model.a.data += 0.5
    expected = 0.1 * 2 * 12.0 / 8.5 * 0.25
    assert part.penalty(learner.model).item() == pytest.approx(expected, rel=1e-12)


def test_ewc_on_two_parameters() -> None:
    # |f(x) - y| with f - y = .5, -1.5: gradients (1, 1) and (-3, -1); squares (1, 1) and (9, 1); means 5 and 1.
    learner = two_samples()
    for fields, fisher, scale in ({"normalise": "none"}, [5.0, 1.0], 1.0), ({}, [5.0, 1.0], 1 / 3.0):
        part = EWC(crops=2, **fields)
        part.reset()
        part.end_stage(stage("one"), learner)
        (anchor,) = part.state["anchors"]
        assert anchor["importance"].tolist() == fisher and anchor["scale"] == pytest.approx(scale)
    learner.model.b.data -= 2.0
    assert part.penalty(learner.model).item() == pytest.approx(1 / 3 * 4.0)
    online = EWC(crops=2, mode="online", decay=0.5)
    online.reset()
    online.end_stage(stage("one"), learner)
    first = online.state["anchors"][0]["importance"]
    online.end_stage(stage("one"), learner)
    (anchor,) = online.state["anchors"]
    torch.testing.assert_close(anchor["importance"], 1.5 * first)
    assert anchor["weights"].tolist() == [2.0, -1.5]


def test_si_on_two_parameters() -> None:
    # Two steps: g = (1, -2), dw = (-.5, -.25); g = (2, 1), dw = (-.5, .75).
    # Path: -(1)(-.5) - (2)(-.5) = 1.5 and -(-2)(-.25) - (1)(.75) = -1.25, clamped to 0. Displacement -1 and .5.
    learner, part = two_samples(), SI(xi=0.5, strength=10.0)
    part.reset()
    part.begin_stage(stage("one"), learner)
    for gradient, move in (([1.0, -2.0], (-0.5, -0.25)), ([2.0, 1.0], (-0.5, 0.75))):
        learner.model.a.data += move[0]
        learner.model.b.data += move[1]
        part.after_step(learner, torch.tensor(gradient, dtype=torch.float64))
    assert part.state["path"].tolist() == [1.5, -1.25]
    part.end_stage(stage("one"), learner)
    assert part.state["anchors"][0]["importance"].tolist() == [1.5 / (1.0 + 0.5), 0.0]
    assert part.state["anchors"][0]["weights"].tolist() == [1.0, 1.0]
    part.begin_stage(stage("one"), learner)
    assert part.state["path"].tolist() == [0.0, 0.0] and part.penalty(learner.model).item() == 0.0
    learner.model.a.data += 0.1
    learner.model.b.data += 0.1
    assert part.penalty(learner.model).item() == pytest.approx(10.0 * 1.0 * 0.01)


def test_si_sees_the_gradient_before_penalty_and_clipping() -> None:
    clipped, _ = trained(
        strategy("si", strength=0.0), training={"steps": 3, "clip": 1e-6, "optimizer": {"name": "sgd"}}
    )
    # The last stage is one step: dw = -lr g / |g| * 1e-6, so path = -<g, dw> = |g| |dw|; a clipped g gives 1e-6 |dw|.
    state = clipped.strategy.retention.state
    moved = float((state["last"] - state["start"]).norm())
    assert moved > 0 and float(state["path"].sum()) > 1e3 * 1e-6 * moved


def test_l2_is_the_squared_distance() -> None:
    learner, part = two_samples(), L2(strength=0.3)
    part.reset()
    part.end_stage(stage("one"), learner)
    learner.model.a.data += 2.0
    learner.model.b.data -= 1.0
    assert part.penalty(learner.model).item() == pytest.approx(0.3 * 5.0)


def test_review_rows_are_not_measured_and_a_stage_of_reviews_measures_what_it_reviews() -> None:
    from cmtl_ir.strategies.shared.weights import fixed_crops

    mixed = fixed_crops(stage("haze", review_of_rain=[3, 4]), 3)
    assert [(task, ids.tolist()) for task, ids in mixed] == [("haze", [0]), ("haze", [1]), ("haze", [2])]
    alone = fixed_crops(stage(review_of_rain=[3, 4], review_of_noise=[5]), 3)
    assert [(task, ids.item()) for task, ids in alone] == [("noise", 0), ("noise", 1), ("rain", 0)]
