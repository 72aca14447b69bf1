"""Effect of equal rows and of a common factor on losses or gradients, per method."""

from __future__ import annotations

import pytest
import torch

from .cases import (
    METHODS,
    NAMES,
    SCALE_FREE,
    SYMMETRIC,
    Drive,
    typical,
)

STEPS = 12

every_method = pytest.mark.parametrize("method", METHODS)


@pytest.mark.parametrize("method", SYMMETRIC)
def test_rows_that_were_always_alike_weigh_the_same(method: str) -> None:
    drive = Drive(METHODS[method](), after=1.0)
    for step in range(STEPS):
        weights = drive.step(step, NAMES, [typical(step)[0]] * 4)
        torch.testing.assert_close(weights, torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["proportional", "equal", "geometric"])
def test_without_state_equal_losses_and_counts_are_enough(method: str) -> None:
    drive = Drive(METHODS[method]())
    drive.step(0, NAMES, typical(0))
    torch.testing.assert_close(drive.step(1, NAMES, [0.03] * 4), torch.ones(4, dtype=torch.float64))


def test_with_a_history_equal_losses_are_not_enough_for_art() -> None:
    drive = Drive(METHODS["art"]())
    assert drive.step(0, NAMES[:2], [0.03, 0.03]).tolist() == pytest.approx([1.0, 1.0])
    drive.step(1, NAMES[:2], [0.03, 0.02])
    assert drive.step(2, NAMES[:2], [0.03, 0.03]).tolist() != pytest.approx([1.0, 1.0], rel=1e-2)


@pytest.mark.parametrize("method", SCALE_FREE)
@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e6])
def test_one_factor_on_all_losses_changes_nothing(method: str, scale: float) -> None:
    plain, scaled = Drive(METHODS[method]()), Drive(METHODS[method]())
    for step in range(STEPS):
        losses = [0.5 * loss + 0.1 for loss in typical(step)]
        plain.step(step, NAMES, losses)
        scaled.step(step, NAMES, [scale * loss for loss in losses])
    assert scaled.seen[-1] == pytest.approx(plain.seen[-1], rel=1e-6)


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(SCALE_FREE)))
def test_art_and_learnt_variances_do_know_the_scale(method: str) -> None:
    plain, scaled = Drive(METHODS[method]()), Drive(METHODS[method]())
    for step in range(60):
        plain.step(step, NAMES, typical(step % 12))
        scaled.step(step, NAMES, [5.0 * loss for loss in typical(step % 12)])
    assert scaled.seen[-1] != pytest.approx(plain.seen[-1], rel=1e-3)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_gradnorm_does_not_know_the_scale_of_the_gradients(scale: float) -> None:
    plain, scaled = Drive(METHODS["gradnorm"]()), Drive(METHODS["gradnorm"](), gradient_scale=scale)
    for step in range(STEPS):
        torch.testing.assert_close(scaled.step(step, NAMES, typical(step)), plain.step(step, NAMES, typical(step)))


def test_gradnorm_survives_gradients_that_vanish() -> None:
    drive = Drive(METHODS["gradnorm"](), gradient_scale=0.0)
    for step in range(STEPS):
        assert drive.step(step, NAMES, typical(step)).tolist() == [1.0] * 4


@pytest.mark.parametrize("count", [1, 5])
def test_proportional_is_equal_when_counts_are_equal(count: int) -> None:
    proportional, equal = Drive(METHODS["proportional"]()), Drive(METHODS["equal"]())
    weights = proportional.step(0, NAMES, typical(0), [count] * 4)
    assert torch.equal(weights, equal.step(0, NAMES, typical(0), [count] * 4))
    assert not torch.equal(proportional.step(1, NAMES, typical(0), [4, 3, 2, 1]), weights)
