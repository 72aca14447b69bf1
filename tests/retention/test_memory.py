"""A memory is ids: how they are chosen."""

from __future__ import annotations

import copy
from collections import Counter

import pytest
import torch

from cmtl_ir.strategies.retention._memory import Memory
from cmtl_ir.strategies.shared.tasks import old_tasks, own_tasks

from .cases import stage


def filled(capacity: int, policy: str, *stages: tuple[str, int], seed: int = 0, batch: int = 7) -> Memory:
    """After stages of one task each, of so many samples."""
    memory = Memory(Memory.empty(seed), capacity, policy)  # type: ignore[arg-type]
    for task, count in stages:
        for ids in torch.arange(count).split(batch):
            memory.see(task, ids)
        memory.close_stage()
    return memory


def test_a_reservoir_keeps_every_sample_with_the_same_probability() -> None:
    # 400 seeds x 10 of 50: each sample is kept with p = .2. Chi-square over 50 cells has mean 50 * .8 = 40.
    seen = Counter(
        (task, n)
        for seed in range(400)
        for task, ids in filled(10, "reservoir", ("a", 30), ("b", 20), seed=seed).kept.items()
        for n in ids
    )
    counts = torch.tensor([seen[key] for key in [("a", n) for n in range(30)] + [("b", n) for n in range(20)]])
    assert counts.sum() == 4000
    chi_square = float((counts - 80.0).square().sum() / 80.0)
    assert 18.0 < chi_square < 70.0  # standard deviation about 8


def test_a_reservoir_does_not_depend_on_how_the_stream_is_cut_into_batches() -> None:
    states = [filled(10, "reservoir", ("a", 60), ("b", 40), batch=batch).state for batch in (1, 7, 60)]
    assert states[0] == states[1] == states[2]


def test_a_reservoir_fills_up_first() -> None:
    assert filled(10, "reservoir", ("a", 6)).kept == {"a": list(range(6))}
    assert sum(map(len, filled(10, "reservoir", ("a", 6), ("b", 500)).kept.values())) == 10


@pytest.mark.parametrize(("policy", "quota"), [("balanced", 3), ("balanced_up", 4)])
def test_balanced_gives_every_task_seen_so_far_its_part(policy: str, quota: int) -> None:
    memory = filled(10, policy, ("a", 50), ("b", 50), ("c", 50))
    assert {task: len(ids) for task, ids in memory.kept.items()} == dict.fromkeys("abc", quota)
    assert len(filled(10, policy, ("a", 50)).kept["a"]) == 10  # of the tasks seen, not of all that will come


def test_a_smaller_quota_keeps_a_part_of_what_was_kept() -> None:
    one, two = (filled(10, "balanced", *stages) for stages in ([("a", 50)], [("a", 50), ("b", 50)]))
    assert set(two.kept["a"]) < set(one.kept["a"])
    assert filled(10, "balanced", ("a", 50), seed=1).kept != one.kept
    assert two.kept["a"] != two.kept["b"]


def test_fewer_samples_than_room_are_all_kept() -> None:
    assert filled(100, "balanced", ("a", 5), ("b", 3)).kept == {"a": list(range(5)), "b": list(range(3))}


@pytest.mark.parametrize("policy", ["balanced", "reservoir"])
def test_what_is_drawn_from_does_not_change_within_a_stage(policy: str) -> None:
    memory = filled(10, policy, ("a", 50))
    before = copy.deepcopy(memory.kept)
    memory.see("b", torch.arange(30))
    assert memory.kept == before
    memory.close_stage()
    assert memory.kept != before


def test_old_tasks_are_those_that_the_stage_does_not_train_itself() -> None:
    now = stage("haze", review_of_rain=[1, 2])
    assert own_tasks(now) == ["haze"]
    assert old_tasks(["noise", "rain", "haze"], now) == ["noise", "rain"]
