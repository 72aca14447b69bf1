"""What the loop promises to the parts of a strategy: the order of hooks, dressed rows, a stage's own rates."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.store import checkpoint
from cmtl_ir.strategy.data import Batch, History, Learner, Row, Stage, StepContext
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Curriculum, Part, Retention, Weighting
from cmtl_ir.strategy.unlearning import Request, Unlearner, WrappedUnlearner
from cmtl_ir.strategy.wrapped import Wrapped
from cmtl_ir.training import learner as training
from cmtl_ir.training.loop import train
from tests import tiny

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[str]]:
    CALLS.clear()
    yield CALLS


def learner_of(curriculum: Curriculum | None = None, **overrides: Any) -> training.Learner:
    """A tiny learner with parts made here."""
    made = tiny.learner(**overrides)
    parts = {name: part for name, part in (("curriculum", curriculum),) if part is not None}
    made.strategy = made.strategy.model_copy(update=parts)
    for part in made.parts().values():
        part.reset()
    return made


class Noting(Retention):
    """Says which hook was called."""

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        CALLS.append("begin_stage")

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        CALLS.append("enter_stage")

    def rows(self, stage: Stage, learner: Learner) -> list[Row]:
        CALLS.append("rows")
        return [Row("memory:noise", "noise", 0.25, 1.0)]


class Dressing(Curriculum):
    """One stage of three tasks; rows are dressed as told."""

    changes: dict[str, dict[str, Any]] = Field({})
    steps: int = 3
    stage: dict[str, Any] = Field({})
    averages: ClassVar[bool] = True

    def next_stage(self, history: History) -> Stage | None:
        mixture = dict.fromkeys(history.tasks, 1 / 3)
        return None if history.stages else Stage("all", mixture, self.steps, **self.stage)

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        CALLS.append(f"dress {row.name}")
        return replace(row, **self.changes.get(row.name, {}))

    def after_step(self, learner: Learner) -> None:
        CALLS.append(f"after {learner.step}")


class Stops(Exception):
    pass


class Stopping(tiny.Silent):
    """Saves after a step, and stops there."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__()
        self.folder, self.step = folder, step

    def stepped(self, learner: training.Learner, result: Any, rate: float) -> None:
        if learner.step == self.step:
            checkpoint.save(self.folder, {"learner": learner.tree()}, step=learner.step)
            raise Stops


# ------------------------------------------------------------------------------------------------ hooks and rows


def test_a_stage_is_begun_once_and_entered_again_after_a_resume(tmp_path: Path) -> None:
    first = learner_of(Dressing())
    first.strategy = first.strategy.model_copy(update={"retention": Noting()})
    with pytest.raises(Stops):
        train(first, Stopping(tmp_path, 2))
    dressed = [f"dress {task}" for task in ("noise", "rain", "haze")]
    assert ["begin_stage", "enter_stage", "rows", *dressed, "after 0", "after 1"] == CALLS
    CALLS.clear()
    again = learner_of(Dressing())
    again.strategy = again.strategy.model_copy(update={"retention": Noting()})
    saved = checkpoint.load_latest(tmp_path)
    assert saved is not None
    again.load_tree(saved.tree["learner"])
    train(again, tiny.Silent())
    assert ["enter_stage", "rows", *dressed, "after 2"] == CALLS


def test_rows_dressed_as_they_are_change_no_bit() -> None:
    plain, dressed = tiny.learner(training={"steps": 3}), learner_of(Dressing(), training={"steps": 3})
    for made in (plain, dressed):
        train(made, tiny.Silent())
    assert tiny.same(tiny.weights(plain), tiny.weights(dressed))


def test_a_dressed_row_has_its_loss_and_its_view_and_one_with_a_coefficient_is_not_weighed() -> None:
    seen: list[tuple[str, float]] = []

    def loss(output: Output, batch: Batch) -> Tensor:
        seen.append((batch.task, float(batch.degraded.max())))
        return output.restored.square().mean((1, 2, 3))

    def dark(batch: Batch) -> Batch:
        return replace(batch, degraded=torch.zeros_like(batch.degraded))

    changes = {"noise": {"loss": loss, "view": dark, "coefficient": 0.5}}
    made, watcher = learner_of(Dressing(changes=changes, steps=1)), tiny.Silent()
    train(made, watcher)
    (result,) = watcher.results
    assert result.rows == ["rain", "haze", "noise"] and len(result.weights) == 2
    assert seen == [("noise", 0.0)]


# ------------------------------------------------------------------------------------------------ stages' fields


def test_parameters_of_a_name_learn_at_their_own_rate_and_a_resume_goes_on_with_it(tmp_path: Path) -> None:
    whole = learner_of(Dressing(stage={"rates": {"intro*": 0.0, "*.bias": 2.0}}, steps=4))
    start = tiny.weights(whole)
    train(whole, tiny.Silent())
    still = {name for name, value in tiny.weights(whole).items() if torch.equal(value, start[name])}
    assert still == {"intro.weight", "intro.bias"}
    assert sorted(group["lr"] / 4e-3 for group in whole.optimizer.param_groups)[0] == 0.0
    factors = [group["factor"] for group in whole.optimizer.param_groups]
    assert factors == [0.0, 1.0, 2.0] and len({group["lr"] for group in whole.optimizer.param_groups}) == 3

    part = Dressing(stage={"rates": {"intro*": 0.0, "*.bias": 2.0}}, steps=4)
    with pytest.raises(Stops):
        train(learner_of(part), Stopping(tmp_path, 2))
    saved, again = checkpoint.load_latest(tmp_path), learner_of(part)
    assert saved is not None
    again.load_tree(saved.tree["learner"])
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(again))


@pytest.mark.error("strategy: a rate for no parameter")
def test_a_rate_for_no_parameter_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"rates: no parameter matches 'head\*'"):
        train(learner_of(Dressing(stage={"rates": {"head*": 10.0}})), tiny.Silent())


@pytest.mark.error("strategy: averaged weights without training.ema")
def test_a_stage_hands_over_its_average_or_the_mean_of_its_last_evaluations() -> None:
    watched = learner_of(Dressing(stage={"weights": "ema"}, steps=4), training={"ema": 0.5})
    train(watched, tiny.Silent())
    assert watched.average is not None
    assert all(torch.equal(value, watched.average.weights[name]) for name, value in tiny.weights(watched).items())
    with pytest.raises(ConfigError, match=r"set training\.ema"):
        train(learner_of(Dressing(stage={"weights": "ema"})), tiny.Silent())

    class Keeping(tiny.Silent):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[dict[str, Tensor]] = []

        def stepped(self, learner: training.Learner, result: Any, rate: float) -> None:
            self.kept.append(tiny.weights(learner))

    averaged, watcher = learner_of(Dressing(stage={"average": 2}, steps=5), evaluation={"every": 2}), Keeping()
    train(averaged, watcher)
    for name, value in tiny.weights(averaged).items():  # evaluated after steps 2, 4 and 5
        torch.testing.assert_close(value, (watcher.kept[3][name] + watcher.kept[4][name]) / 2)


# ---------------------------------------------------------------------------------------- what a part may look at


class Reading(Weighting):
    """Notes the identity's losses."""

    def weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        self.state["identity"] = context.identity
        return torch.ones_like(losses)


def test_the_identity_s_losses_are_those_of_the_degraded_images() -> None:
    made = tiny.learner(training={"steps": 1})
    made.strategy = made.strategy.model_copy(update={"weighting": Reading()})
    train(made, tiny.Silent())
    expected = []
    for task in made.tasks:
        batch = made.batch(task, torch.arange(2))
        expected.append(float((batch.degraded - batch.clean).abs().mean()))
    assert made.strategy.weighting.state["identity"].tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="no samples"):
        _ = StepContext(0, "all", (), (), 0).identity


def test_a_second_view_is_another_crop_under_the_same_parameters() -> None:
    made = tiny.learner(tasks={"noise": {"sigma": [15, 75]}}, data={"patch": 32})
    ids = torch.arange(24)
    first = made.batch("noise", ids)
    second = made.second_view(first)
    again = made.second_view(made.batch("noise", ids[3:5]))
    assert torch.equal(again.degraded, second.degraded[3:5]) and torch.equal(second.ids, ids)
    assert not any(torch.equal(a, b) for a, b in zip(first.clean, second.clean, strict=True))
    one, other = ((batch.degraded - batch.clean).flatten(1) for batch in (first, second))
    levels = torch.stack([one.std(1), other.std(1)])
    assert bool(((levels[0] > 0.15) == (levels[1] > 0.15)).all()) and len((levels[0] > 0.15).unique()) == 2
    assert torch.nn.functional.cosine_similarity(one, other).abs().max() < 0.2  # noise of its own


@pytest.mark.error("run: a teacher outside of a store")
def test_a_run_outside_a_store_has_no_teachers() -> None:
    made = tiny.learner()
    with pytest.raises(UserError, match="teacher of rain"):
        made.teacher("rain")
    network = nn.Identity()
    made.teachers = {"rain": network}.__getitem__
    assert made.teacher("rain") is network


# ------------------------------------------------------------------------------------------------------- wrapping


def hooks(base: type[Part]) -> set[str]:
    """The methods that a family declares, without properties and without those that only make sense for the part."""
    own = {"call_it", "pooled", "model_post_init"}
    named = {
        name
        for cls in base.__mro__
        if issubclass(cls, Part)
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    return named - own


@pytest.mark.parametrize(("wrapper", "family"), [(Wrapped, Retention), (WrappedUnlearner, Unlearner)])
def test_a_wrapper_hands_every_hook_of_its_family_to_the_inner_part(wrapper: Any, family: type[Part]) -> None:
    called: list[str] = []

    def noting(name: str, plain: Any) -> Any:
        def hook(self: Part, *given: Any) -> Any:
            called.append(name)
            return plain(self, *given)

        return hook

    plain = {name: getattr(family, name) for name in hooks(family)}
    inner = type("Inner", (family,), {name: noting(name, method) for name, method in plain.items()})
    wrapped = wrapper(base=inner())
    learner, stage, context = tiny.learner(), Stage("s", {"noise": 1.0}, 3), StepContext(0, "s", (), (), 0)
    given: dict[str, tuple[Any, ...]] = {
        "backbone": ({"name": "nafnet"}, ("noise",)),
        "observe": (learner.batch("noise", torch.arange(1)), "noise", torch.ones(1)),
        "penalty": (learner.model,),
        "project": (torch.ones(2), torch.ones(0, 2), context),
        "after_step": (learner, None),
        "load_state_dict": ({"own": {}, "base": {}},),
        "ask": (Request((), ()),),
        "with_steps": (3,),
        "edit": (learner,),
    }
    of_stages = ("begin_stage", "enter_stage", "rows", "end_stage", "learned_before")
    for name in sorted(plain):
        called.clear()
        try:
            getattr(wrapped, name)(*((stage, learner) if name in of_stages else given.get(name, ())))
        except UserError:
            assert name == "with_steps"
        assert name in called, f"{wrapper.__name__}.{name} does not reach the inner part"
    assert (wrapped.needs, wrapped.needs_update) == (wrapped.base.needs, wrapped.base.needs_update)
