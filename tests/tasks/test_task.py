"""Samples: the n-th sample of a task has the same bits in every process, at any time and in any batch."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cmtl_ir.strategy.data import Batch
from tests.tasks.files import folder_of
from tests.tasks.tasks import IDS, built, equal, task_of


@pytest.fixture(params=["gaussian_noise", "rain_streaks", "haze"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def rows(batch: Batch, chosen: Tensor) -> Batch:
    return Batch(batch.task, batch.ids[chosen], batch.degraded[chosen], batch.clean[chosen])


# ---------------------------------------------------------------------------------- the same bits for everyone


def test_a_batch_is_what_it_says(name: str) -> None:
    batch = task_of({"degradation": name}).batch(IDS)
    assert batch.task == "one" and torch.equal(batch.ids, IDS)
    for images in (batch.degraded, batch.clean):
        assert images.shape == (20, 3, 48, 48) and images.dtype == torch.float32 and images.is_contiguous()
        assert images.min() >= 0 and images.max() <= 1
    assert (batch.degraded - batch.clean).abs().mean() > 0.005


def test_samples_do_not_depend_on_their_batch(name: str) -> None:
    task = task_of({"degradation": name})
    whole = task.batch(IDS)
    order = torch.randperm(len(IDS))
    assert equal(task.batch(IDS[order]), rows(whole, order))
    for number, single in enumerate(IDS.split(1)):
        assert equal(task.batch(single), rows(whole, torch.tensor([number])))


def test_samples_do_not_depend_on_the_other_tasks(name: str) -> None:
    alone = built({"one": {"degradation": name}})["one"]
    crowd = built({"a": {"degradation": "haze"}, "one": {"degradation": name}, "z": {"degradation": "rain_streaks"}})
    crowd["a"].batch(IDS)
    assert equal(crowd["one"].batch(IDS), alone.batch(IDS))


def test_samples_do_not_depend_on_the_thread_or_its_generator(name: str) -> None:
    task = task_of({"degradation": name})
    expected = task.batch(IDS)

    def ask(seed: int) -> bool:
        torch.manual_seed(seed)
        return equal(task.batch(IDS), expected)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(ask, range(16)))


def test_drawing_leaves_the_global_generators_alone(name: str) -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(itertools.islice(task_of({"degradation": name}).test_samples(), 2))
    task_of({"degradation": name}).batch(IDS)
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == numpy_before).all()


def test_the_seed_and_the_name_change_every_sample() -> None:
    noise = {"degradation": "gaussian_noise"}
    batches = [built({name: noise}, seed)[name].batch(IDS) for name, seed in (("a", 0), ("a", 1), ("b", 0))]
    for one, other in itertools.combinations(batches, 2):
        assert (one.degraded != other.degraded).flatten(1).any(1).all()


def test_a_moved_folder_gives_the_same_samples(tmp_path: Path) -> None:
    tasks = []
    for root in ("here", "there/deeper"):
        folder_of(tmp_path / root, [f"{n} x.png" for n in range(12)])
        tasks.append(task_of({"degradation": "gaussian_noise"}, clean=str(tmp_path / root), patch=16))
    assert equal(tasks[0].batch(IDS), tasks[1].batch(IDS)) and tasks[0].digest == tasks[1].digest
    assert tasks[0].test_digest == tasks[1].test_digest
    for one, other in zip(*(task.test_samples() for task in tasks), strict=True):
        assert one.image == other.image and torch.equal(one.degraded, other.degraded)


# --------------------------------------------------------------------------------------------------- identity


def test_the_digest_knows_what_decides_a_sample_and_nothing_else() -> None:
    noise = {"degradation": "gaussian_noise", "sigma": [25]}
    base = task_of(noise)
    same = [task_of(noise, test_limit=1), built({"x": noise, "one": noise}, seed=5)["one"]]
    different = [
        task_of({**noise, "sigma": [26]}),
        task_of({"degradation": "haze"}),
        task_of({**noise, "repeats": 2}),
        task_of(noise, patch=16),
        task_of(noise, flips="none"),
        task_of(noise, val=0.2),
        built({"two": noise})["two"],
    ]
    assert {task.digest for task in same} == {base.digest}
    assert len({task.digest for task in [base, *different]}) == 1 + len(different)
    assert task_of(noise, test_limit=1).test_digest != base.test_digest == task_of(noise, flips="none").test_digest
