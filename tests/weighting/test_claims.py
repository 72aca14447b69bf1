"""Properties of every weighting, on families of extreme losses."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from cmtl_ir.strategy import registry
from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import (
    LOSSES,
    METHODS,
    NAMES,
    Drive,
    leaves,
    typical,
)

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


@every_method
def test_the_step_never_waits_for_the_device(method: str) -> None:
    """On tensors without values, anything that needs one on the host raises."""
    part = METHODS[method]()
    part.reset()
    losses = torch.empty(4, dtype=torch.float64, device="meta")
    gramian = torch.empty(4, 4, dtype=torch.float64, device="meta") if part.needs == "gramian" else None
    for step in range(STEPS):
        context = StepContext(step, "stage", NAMES, (4, 3, 2, 1), 0, lambda: losses, lambda: losses)
        weights = part.scaled(losses, gramian, context)
        part.after_step(context)
        assert weights.device.type == "meta" and weights.shape == (4,)


@every_method
def test_it_trains(method: str) -> None:
    part = METHODS[method]()
    learner = tiny.learner({"weighting": {"name": part.called, **part.model_dump(exclude_defaults=True)}})
    watcher = tiny.Silent(look_every=4)
    train(learner, watcher)
    assert learner.step == 12
    assert all(float(result.weights.mean()) == pytest.approx(1.0) for result in watcher.results)
