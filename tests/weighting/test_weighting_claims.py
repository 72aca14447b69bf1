"""Claims that hold for every weighting, on families of losses that break careless code."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from weighting_cases import (
    LOSSES,
    METHODS,
    NAMES,
    SCALE_FREE,
    STATEFUL,
    SYMMETRIC,
    Drive,
    leaves,
    same,
    snapshot,
    typical,
)

from cmtl_ir import registry
from cmtl_ir.strategy import Weighting

STEPS = 12

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
@pytest.mark.parametrize("normalise", ["mean1", "raw"])
@pytest.mark.parametrize("family", LOSSES)
def test_weights_are_finite_and_never_negative(method: str, normalise: str, family: str) -> None:
    drive = Drive(METHODS[method](normalise=normalise))
    for step in range(STEPS):
        weights = drive.step(step, NAMES, LOSSES[family](step), [4, 3, 2, 1])
        assert weights.shape == (4,) and weights.dtype == torch.float64
        assert torch.isfinite(weights).all() and (weights >= 0).all()
    assert all(torch.isfinite(leaf).all() for _, leaf in leaves(drive.part.state) if isinstance(leaf, torch.Tensor))


@every_method
@pytest.mark.parametrize("family", LOSSES)
def test_weights_have_mean_one(method: str, family: str) -> None:
    drive = Drive(METHODS[method]())
    for step in range(STEPS):
        assert drive.step(step, NAMES, LOSSES[family](step), [4, 3, 2, 1]).mean() == pytest.approx(1.0, abs=1e-12)


@every_method
def test_mean_is_one_over_the_rows_present(method: str) -> None:
    drive = Drive(METHODS[method]())
    for step in range(STEPS):
        present = [i for i in range(4) if (step + i) % 3]
        weights = drive.step(step, [NAMES[i] for i in present], [typical(step)[i] for i in present])
        assert weights.mean() == pytest.approx(1.0, abs=1e-12)


@every_method
@pytest.mark.parametrize("family", LOSSES)
def test_a_single_row_weighs_one(method: str, family: str) -> None:
    drive = Drive(METHODS[method]())
    for step in range(STEPS):
        assert drive.step(step, NAMES[:1], LOSSES[family](step)[:1]).item() == pytest.approx(1.0, abs=1e-15)


@every_method
def test_weights_go_with_the_name_not_with_the_place(method: str) -> None:
    straight, turned = Drive(METHODS[method]()), Drive(METHODS[method]())
    for step in range(STEPS):
        order = [(i * (1 + 2 * (step % 2)) + step) % 4 for i in range(4)]  # another order every step
        counts = [4, 3, 2, 1]
        straight.step(step, NAMES, typical(step), counts)
        turned.step(step, [NAMES[i] for i in order], [typical(step)[i] for i in order], [counts[i] for i in order])
    for first, second in zip(straight.seen, turned.seen, strict=True):
        assert second == pytest.approx(first, rel=1e-9)


@every_method
def test_an_absent_row_keeps_its_state(method: str) -> None:
    drive = Drive(METHODS[method]())
    for step in range(5):
        drive.step(step, NAMES, typical(step))
    before = snapshot(drive.part)
    for step in range(5, 9):
        drive.step(step, NAMES[1:], typical(step)[1:])
    after = snapshot(drive.part)
    own = [path for path in before if NAMES[0] in path]
    assert bool(own) == (method in STATEFUL)
    assert all(same(before[path], after[path]) for path in own)
    others = [path for path in after if NAMES[1] in path]
    assert bool(others) == any(not same(before.get(path), after[path]) for path in others)


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


@every_method
@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_saved_state_goes_on_to_the_same_bits(method: str, at: int) -> None:
    whole, first, second = (Drive(METHODS[method]()) for _ in range(3))
    for step in range(STEPS):
        whole.step(step, NAMES, typical(step))
    for step in range(at):
        first.step(step, NAMES, typical(step))
    second.part.load_state_dict(copy.deepcopy(first.part.state_dict()))
    for step in range(at, STEPS):
        second.step(step, NAMES, typical(step))
    assert first.seen + second.seen == whole.seen
    assert all(same(value, snapshot(second.part)[path]) for path, value in snapshot(whole.part).items())


@every_method
def test_the_state_can_be_written_as_tensors_and_plain_values(method: str) -> None:
    drive = Drive(METHODS[method]())
    for step in range(STEPS):
        drive.step(step, NAMES, typical(step))
    flat = snapshot(drive.part)
    tensors = {"/".join(path): leaf for path, leaf in leaves(drive.part.state) if isinstance(leaf, torch.Tensor)}
    assert all(leaf is None or isinstance(leaf, torch.Tensor | int | float | str) for leaf in flat.values())
    if tensors:
        read = load(save(tensors))
        assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


@every_method
def test_reset_forgets_everything(method: str) -> None:
    part = METHODS[method]()
    runs = [Drive(part) for _ in range(1)]
    for step in range(STEPS):
        runs[0].step(step, NAMES, typical(step))
    runs.append(Drive(part))
    for step in range(STEPS):
        runs[1].step(step, NAMES, typical(step))
    assert runs[0].seen == runs[1].seen


@pytest.mark.parametrize("count", [1, 5])
def test_proportional_is_equal_when_counts_are_equal(count: int) -> None:
    proportional, equal = Drive(METHODS["proportional"]()), Drive(METHODS["equal"]())
    weights = proportional.step(0, NAMES, typical(0), [count] * 4)
    assert torch.equal(weights, equal.step(0, NAMES, typical(0), [count] * 4))
    assert not torch.equal(proportional.step(1, NAMES, typical(0), [4, 3, 2, 1]), weights)


@pytest.mark.parametrize("name", registry.names("weighting"))
def test_the_registry_offers_it_under_its_own_name(name: str) -> None:
    cls = registry.load("weighting", name)
    assert issubclass(cls, Weighting) and registry.snake_case(cls.__name__) == name
    assert cls.__doc__ and all(field.description for key, field in cls.model_fields.items() if key != "normalise")


def test_every_weighting_is_under_test() -> None:
    assert {method.partition("-")[0] for method in METHODS} == set(registry.names("weighting"))


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"manual"}))
def test_an_unknown_field_is_refused(method: str) -> None:
    with pytest.raises(ValidationError, match="tau"):
        METHODS[method](tau=1.0)
