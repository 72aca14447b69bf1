"""Frozen weights do not change, whatever the state of the optimizer."""

from __future__ import annotations

import pytest
import torch

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import strategy

ADAMW = {"optimizer": {"name": "adamw", "weight_decay": 0.1}, "ema": 0.9}


class Starts(tiny.Silent):
    def __init__(self) -> None:
        super().__init__(look_every=3)
        self.starts: list[dict[str, torch.Tensor]] = []

    def stage_started(self, learner, stage) -> None:
        self.starts.append(tiny.weights(learner))


@pytest.mark.parametrize("curriculum", ["sequential", {"name": "interleaved", "rounds": 1}])
def test_frozen_parameters_are_bit_equal_after_ten_adamw_steps(curriculum) -> None:
    # interleaved keeps one optimizer: its momentum and weight decay would move a weight whose gradient is only zeroed.
    training = {**ADAMW, "steps": 20}
    learner = tiny.learner(strategy("freeze", curriculum), tasks={"haze": None}, training=training)
    watcher = Starts()
    train(learner, watcher)
    first, second, end = *watcher.starts, tiny.weights(learner)
    frozen = [name for name in end if name.startswith("encoders.")]
    assert frozen and len(frozen) < len(end)
    for name in end:
        assert torch.equal(second[name], end[name]) == (name in frozen), name
        if name in frozen and "beta" not in name:
            assert learner.model.get_parameter(name).requires_grad
    assert any(not torch.equal(first[name], second[name]) for name in frozen)  # the first stage trained them


def test_after_0_freezes_from_the_start() -> None:
    learner = tiny.learner(strategy("freeze", after=0), training={"steps": 3})
    start = tiny.weights(learner)
    train(learner, tiny.Silent())
    moved = [name for name, value in tiny.weights(learner).items() if not torch.equal(value, start[name])]
    assert moved and not any(name.startswith("encoders.") for name in moved)


@pytest.mark.error("strategy: a pattern of frozen parameters that matches nothing")
def test_a_pattern_that_matches_nothing_is_refused_before_training() -> None:
    for patterns, message in (["encoder_1.*"], "no parameter matches 'encoder_1"), (["*"], "the whole network"):
        learner = tiny.learner(strategy("freeze", patterns=patterns))
        with pytest.raises(ConfigError, match=message):
            train(learner, tiny.Silent())
        assert learner.step == 0


def test_a_surgery_that_remembers_gradients_goes_on_with_fewer_parameters() -> None:
    learner = tiny.learner({**strategy("freeze", "cumulative"), "surgery": "db_mtl"}, training={"steps": 6})
    train(learner, tiny.Silent())
    means = learner.strategy.surgery.state["means"]
    trained = sum(p.numel() for name, p in learner.model.named_parameters() if not name.startswith("encoders."))
    assert learner.step == 6 and {len(mean) for mean in means.values()} == {trained}
