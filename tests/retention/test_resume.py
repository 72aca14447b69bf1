"""A run that is killed in the middle of a stage and resumes in another process ends with the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmtl_ir.store import checkpoint
from cmtl_ir.strategy import registry
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import SMALL, strategy

STEPS = {"training": {"steps": 9, "batch": 4}}


class Killed(Exception):
    pass


class Keeper(tiny.Silent):
    """Saves at one step as the recorder does, or kills the run there."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__()
        self.folder, self.step = folder, step

    def stepped(self, learner, result, rate) -> None:
        if learner.step == self.step:
            checkpoint.save(self.folder, {"learner": learner.tree()}, step=learner.step)


def whole_and_resumed(made: dict, folder: Path, step: int) -> tuple[dict, dict]:
    """All that both runs hold at the end: one that saved at `step`, one that began there in a fresh learner."""
    whole = tiny.learner(made, **STEPS)
    train(whole, Keeper(folder, step))
    resumed = tiny.learner(made, **STEPS)
    saved = checkpoint.load_latest(folder)
    assert saved is not None and saved.step == step
    resumed.load_tree(saved.tree["learner"])
    train(resumed, tiny.Silent())
    return whole.tree(), resumed.tree()


def assert_same_tree(one, other, path: str = "") -> None:
    """Equal in structure, and every leaf to the last bit."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same_tree(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_tree(a, b, f"{path}/{number}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.mark.parametrize("label", SMALL)
def test_resumed_in_the_middle_of_the_second_stage_all_is_equal_to_the_last_bit(label: str, tmp_path: Path) -> None:
    assert_same_tree(*whole_and_resumed(strategy(label), tmp_path, step=5))


@pytest.mark.parametrize("label", ["replay-reservoir", "der_plus_plus", "distill", "si", "gem"])
@pytest.mark.parametrize("step", [3, 9])
def test_resumed_after_a_stage_s_last_step_too(label: str, step: int, tmp_path: Path) -> None:
    assert_same_tree(*whole_and_resumed(strategy(label), tmp_path, step))


@pytest.mark.parametrize("name", registry.names("retention"))
def test_the_registry_offers_it_under_its_own_name_and_every_field_is_explained(name: str) -> None:
    cls = registry.load("retention", name)
    assert registry.snake_case(cls.__name__) == name
    assert cls.__doc__ and all(field.description for field in cls.model_fields.values())
    assert len(cls.__doc__.splitlines()[0]) < 120 and cls.__doc__.splitlines()[0].endswith((".", "]"))
    assert name in {label.partition("-")[0] for label in SMALL}
