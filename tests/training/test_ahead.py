"""Samples drawn while the step before trains: the same samples, errors in their own step, no thread left behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.base.environment import CORES
from cmtl_ir.strategy.data import Batch
from cmtl_ir.training import loop
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.samples import Prefetcher, has_room
from tests import tiny

STRATEGIES: dict[str, dict[str, Any]] = {
    "joint": {},
    "pcgrad": {"surgery": "pcgrad"},
    "review": {"curriculum": "review"},  # which samples are hard is known only when their step was made
    "replay": {"curriculum": "sequential", "retention": "replay"},
    "degradation_replay": {"curriculum": "sequential", "retention": "degradation_replay"},
    "distill": {"curriculum": "sequential", "retention": "distill"},
}


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(loop, "has_room", lambda device: True)


class Threads(tiny.Silent):
    """In which thread each sample was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def watch(self, learner: Any) -> None:
        draw = learner.batch

        def noting(task: str, ids: Tensor, images: str | None = None) -> Batch:
            self.names.append(threading.current_thread().name)
            return draw(task, ids, images)

        learner.batch = noting


def trained(strategy: dict[str, Any]) -> Learner:
    learner = tiny.learner(strategy)
    train(learner, tiny.Silent())
    return learner


@pytest.mark.parametrize("name", STRATEGIES)
def test_weights_are_those_of_a_run_that_draws_every_step_in_its_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = trained(STRATEGIES[name])
    monkeypatch.setattr(Prefetcher, "prefetch", lambda self, wanted: None)
    in_time = trained(STRATEGIES[name])
    assert ahead.data.tree() == in_time.data.tree()
    assert tiny.same(tiny.weights(ahead), tiny.weights(in_time))


def test_all_but_a_stage_s_first_samples_are_drawn_beside_the_training_thread() -> None:
    learner, watcher = tiny.learner(), Threads()
    watcher.watch(learner)
    train(learner, watcher)
    beside = [name.startswith("samples ahead") for name in watcher.names]
    assert beside == [False] * 3 + [True] * 33  # 12 steps, 3 tasks


def test_a_wrong_guess_is_drawn_again() -> None:
    asked: list[list[int]] = []

    def draw(task: str, ids: Tensor, images: str | None) -> Batch:
        asked.append(ids.tolist())
        return Batch(task, ids, torch.zeros(len(ids)), torch.zeros(len(ids)))

    with Prefetcher(draw) as ahead:
        ahead.prefetch([("noise", torch.arange(4), None), ("rain", torch.arange(2), "noise")])
        ahead.wait()
        found = [ahead.batch("noise", torch.arange(4)), ahead.batch("noise", torch.arange(1, 5))]
        found += [ahead.batch("rain", torch.arange(2), "noise"), ahead.batch("rain", torch.arange(2))]
    assert asked == [[0, 1, 2, 3], [0, 1], [1, 2, 3, 4], [0, 1]]
    assert [batch.ids.tolist() for batch in found] == [[0, 1, 2, 3], [1, 2, 3, 4], [0, 1], [0, 1]]


def test_what_could_not_be_drawn_stops_the_step_that_needs_it_and_leaves_no_thread() -> None:
    learner: Any = tiny.learner()
    draw, watcher = learner.batch, tiny.Silent()

    def broken(task: str, ids: Tensor, images: str | None = None) -> Batch:
        if task == "rain" and int(ids.max()) >= 10:  # two samples of each task a step: the sixth step's
            raise OSError("rain.png: unreadable")
        return draw(task, ids, images)

    learner.batch = broken
    before = threading.active_count()
    with pytest.raises(OSError, match=r"rain\.png"):
        train(learner, watcher)
    assert learner.step == len(watcher.results) == 5
    assert learner.data.counters["rain"] == 10
    assert threading.active_count() == before


@pytest.mark.parametrize(("cores", "device", "room"), [(1, "cpu", False), (2, "cpu", True), (1, "cuda", True)])
def test_there_is_room_where_training_leaves_a_core(
    cores: int, device: str, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CORES, str(cores * torch.get_num_threads()))
    assert has_room(torch.device(device)) is room
