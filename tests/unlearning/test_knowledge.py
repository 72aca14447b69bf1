"""What a model still knows: membership inference and relearning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmtl_ir.config.reading import neutral
from cmtl_ir.strategy.data import Stage
from cmtl_ir.strategy.unlearning import Program
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.unlearning.attack import FEWEST, membership, separation
from cmtl_ir.unlearning.probe import probe_psnr
from cmtl_ir.unlearning.relearn import TOLERANCE_DB, Relearning, relearning
from tests import tiny

LEARNT = 24
"""Draws of haze that a model learns by heart."""


def trained(stage: Stage, width: int = 4) -> Learner:
    """A learner after this one stage."""
    experiment = tiny.experiment(backbone={"width": width}, conflict={"every": 0})
    learner = tiny.learner(backbone={"width": width}, conflict={"every": 0})
    strategy = neutral().model_copy(update={"curriculum": Program.of([stage])})
    learner = Learner(experiment, strategy, learner.task_of, 0, torch.device("cpu"))
    train(learner, tiny.Silent())
    return learner


# ------------------------------------------------------------------------------------------ membership inference


def test_a_model_that_never_saw_either_half_of_the_pool_gives_one_half() -> None:
    learner = trained(Stage("noise", {"noise": 1.0}, 30))
    found = membership(learner, {"haze": 128}, ["haze"])
    assert found.n == 128 and found.low <= 0.5 <= found.high and found.high - found.low < 0.15


def test_a_model_that_learnt_one_half_by_heart_gives_it_away() -> None:
    by_heart = Stage("by heart", {"haze": 1.0}, 200, memory={"haze": tuple(range(LEARNT))})
    found = membership(trained(by_heart, width=8), {"haze": LEARNT}, ["haze"])
    assert found.n == LEARNT and found.low > 0.5


def test_too_few_members_are_not_attacked() -> None:
    found = membership(tiny.learner(), {"haze": FEWEST - 1}, ["haze"])
    assert np.isnan(found.estimate) and str(FEWEST) in found.reason


def test_separation_is_the_share_of_pairs_in_order_ties_counting_half() -> None:
    generator = np.random.default_rng(0)
    members, others = generator.integers(0, 9, 40), generator.integers(0, 7, 30)
    pairs = members[:, None] - others[None]
    assert separation(members, others).estimate == pytest.approx(((pairs > 0) + (pairs == 0) / 2).mean())


def test_its_interval_covers_the_truth_19_times_in_20() -> None:
    generator, truth = np.random.default_rng(1), 0.63816319508411  # Phi(.5 / sqrt 2)
    found = [separation(generator.normal(0.5, 1, 64), generator.normal(0, 1, 64)) for _ in range(1000)]
    assert 0.93 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.97


# -------------------------------------------------------------------------------------------------- relearning


@pytest.fixture(scope="module")
def able() -> Learner:
    """A learner that knows haze."""
    return trained(Stage("haze", {"haze": 1.0}, 60))


def back(able: Learner, weights: dict[str, torch.Tensor], budget: int) -> Relearning:
    experiment, target = tiny.experiment(conflict={"every": 0}), probe_psnr(able, ["haze"]) - TOLERANCE_DB
    return relearning(experiment, able.task_of, weights, 0, torch.device("cpu"), ["haze"], target, budget)


def test_an_untouched_model_needs_0_steps(able: Learner) -> None:
    found = back(able, tiny.weights(able), 20)
    assert found.steps == 0 and len(found.curve) == 1


def test_a_model_that_never_knew_needs_some_and_too_small_a_budget_is_no_answer(able: Learner) -> None:
    strange = tiny.weights(tiny.learner())
    found, cut = back(able, strange, 200), back(able, strange, 5)
    assert found.steps is not None and found.steps > 5 and found.curve[-1][1] >= found.target
    assert cut.steps is None and cut.curve == found.curve[: len(cut.curve)]
