"""Stages of every curriculum, in particular of joint, single, sequential and interleaved."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
from pydantic import ValidationError

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategies.curriculum.cumulative import Cumulative
from cmtl_ir.strategies.curriculum.equivariant import Equivariant
from cmtl_ir.strategies.curriculum.interleaved import Interleaved
from cmtl_ir.strategies.curriculum.joint import Joint
from cmtl_ir.strategies.curriculum.mean_teacher import MeanTeacher
from cmtl_ir.strategies.curriculum.mixed_matched import MixedMatched
from cmtl_ir.strategies.curriculum.mixing_law import MixingLaw
from cmtl_ir.strategies.curriculum.noise2noise import Noise2noise
from cmtl_ir.strategies.curriculum.rebalance import Rebalance
from cmtl_ir.strategies.curriculum.review import Review
from cmtl_ir.strategies.curriculum.sequential import Sequential
from cmtl_ir.strategies.curriculum.severity_ramp import SeverityRamp
from cmtl_ir.strategies.curriculum.single import Single
from cmtl_ir.strategies.curriculum.sure import Sure
from cmtl_ir.strategies.curriculum.two_stage import TwoStage
from cmtl_ir.strategies.curriculum.unsatisfied import Unsatisfied
from cmtl_ir.strategies.curriculum.worst import Worst
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.parts import Curriculum
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import MIOIR, history, walk

CURRICULA: dict[str, Callable[..., Curriculum]] = {
    "joint": Joint,
    "joint-by_size": lambda: Joint(balance="by_size"),
    "joint-cycles": lambda: Joint(cycles=10),
    "single": lambda: Single(task=MIOIR[0]),
    "sequential": Sequential,
    "interleaved": lambda: Interleaved(rounds=3),
    "cumulative": Cumulative,
    "mixed_matched": MixedMatched,
    "review": Review,
    "two_stage": lambda: TwoStage(first="teachers", then="sequential"),
    "mean_teacher": lambda: MeanTeacher(share=0),
    "rebalance": lambda: Rebalance(windows=4),
    "worst": Worst,
    "sure": lambda: Sure(share=0),
    "noise2noise": lambda: Noise2noise(share=0),
    "equivariant": lambda: Equivariant(share=0),
    "mixing_law": lambda: MixingLaw(proxy=0),
    "unsatisfied": lambda: Unsatisfied(thresholds=()),
    "severity_ramp": lambda: SeverityRamp(ids=10, stages=3),
    "review-phase": lambda: Review(rehearse="phase"),
}


@pytest.mark.parametrize("name", CURRICULA)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("steps", [21, 22, 30, 97, 900, 1001, 2_500_003])
def test_steps_sum_to_the_budget_and_shares_to_one(name: str, count: int, steps: int) -> None:
    tasks = MIOIR[:count]
    stages = walk(CURRICULA[name](), tasks, steps, **{task: 10 + i for i, task in enumerate(tasks)})
    assert sum(stage.steps for stage in stages) == steps
    assert all(stage.steps > 0 for stage in stages)
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        assert sum(stage.mixture.values()) == pytest.approx(1.0, abs=1e-12)
        assert all(share > 0 for share in stage.mixture.values()) and set(stage.mixture) <= set(tasks)


@pytest.mark.parametrize("name", CURRICULA)
def test_a_saved_state_goes_on_to_the_same_stages(name: str) -> None:
    whole = walk(CURRICULA[name](), MIOIR, 900)
    for done in range(len(whole)):
        first, second = CURRICULA[name](), CURRICULA[name]()
        first.reset(), second.reset()
        for i in range(done):
            assert first.next_stage(history(MIOIR, 900, whole[:i])) == whole[i]
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        assert second.next_stage(history(MIOIR, 900, whole[:done])) == whole[done]


@pytest.mark.error("training: too few steps for the stages of {name}")
@pytest.mark.parametrize("name", ["sequential", "interleaved", "cumulative", "mixed_matched", "review"])
def test_too_few_steps_are_refused_with_the_least_number(name: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.steps: 2 steps are too few"):
        CURRICULA[name]().next_stage(history(MIOIR, 2))


@pytest.mark.parametrize("name", registry.names("curriculum"))
def test_the_registry_offers_it_under_its_own_name(name: str) -> None:
    cls = registry.load("curriculum", name)
    assert issubclass(cls, Curriculum) and registry.snake_case(cls.__name__) == name
    assert cls.__doc__ and all(field.description for field in cls.model_fields.values())
    assert name in {key.partition("-")[0] for key in CURRICULA}


# ----------------------------------------------------------------------------------------------- joint, single


def test_joint_equal_gives_every_task_the_same_share() -> None:
    (stage,) = walk(Joint(), ("a", "b", "c"), 90, a=1, b=10, c=100)
    assert stage.mixture == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3} and stage.cycles == 1
    assert not stage.fresh_optimizer


def test_joint_by_size_gives_promptirs_shares() -> None:
    """haze 72,135; noise 5144 images x 9 draws; rain 200 x 120: 142,431 draws an epoch."""
    sizes = {"haze": 72_135, "noise": 5144 * 9, "rain": 200 * 120}
    (stage,) = walk(Joint(balance="by_size"), list(sizes), 90, **sizes)
    assert sum(sizes.values()) == 142_431
    assert {task: round(100 * share, 1) for task, share in stage.mixture.items()} == {
        "haze": 50.6, "noise": 32.5, "rain": 16.9,
    }  # fmt: skip


def test_joint_with_ten_cycles_is_mioirs_mixed_baseline() -> None:
    (stage,) = walk(Joint(cycles=10), MIOIR, 2_500_000)
    assert stage.cycles == 10 and stage.steps == 2_500_000


@pytest.mark.error("strategy: a curriculum that names an unknown task")
def test_single_trains_its_task_alone() -> None:
    (stage,) = walk(Single(task="blur"), MIOIR, 90)
    assert stage.mixture == {"blur": 1.0} and list(Single(task="blur").named_tasks()) == ["blur"]
    with pytest.raises(ConfigError, match=r"'blurr'.*blur"):
        Single(task="blurr").next_stage(history(MIOIR, 90))
    with pytest.raises(ValidationError):
        Single()


# ----------------------------------------------------------------------------------- sequential, interleaved


def test_sequential_is_one_task_after_the_other_with_restarts() -> None:
    stages = walk(Sequential(), ("a", "b", "c"), 10)
    assert [(stage.name, stage.mixture, stage.steps) for stage in stages] == [
        ("a", {"a": 1.0}, 3), ("b", {"b": 1.0}, 3), ("c", {"c": 1.0}, 4),
    ]  # fmt: skip
    assert all(stage.fresh_optimizer and stage.cycles == 1 and not stage.memory for stage in stages)


def test_interleaved_goes_round_with_one_optimizer() -> None:
    stages = walk(Interleaved(rounds=2), ("a", "b"), 20)
    assert [stage.name for stage in stages] == ["a-1", "b-1", "a-2", "b-2"]
    assert not any(stage.fresh_optimizer for stage in stages)
    assert [stage.span for stage in stages] == [
        (sum(one.steps for one in stages[:i]), sum(one.steps for one in stages)) for i in range(len(stages))
    ]


def test_interleaved_once_is_sequential_without_its_restarts() -> None:
    once, sequential = walk(Interleaved(rounds=1), MIOIR, 901), walk(Sequential(), MIOIR, 901)
    assert [(stage.mixture, stage.steps) for stage in once] == [(stage.mixture, stage.steps) for stage in sequential]


@pytest.mark.parametrize("name", ["joint-by_size", "interleaved", "cumulative", "mixed_matched"])
def test_it_trains(name: str) -> None:
    curriculum = CURRICULA[name]()
    fields = {"name": curriculum.called, **curriculum.model_dump(exclude_defaults=True)}
    learner, watcher = tiny.learner({"curriculum": fields}), tiny.Silent()
    train(learner, watcher)
    assert learner.step == 12
    assert watcher.ends == [stage.name for stage in walk(CURRICULA[name](), tuple(tiny.RAW["tasks"]), 12)]
