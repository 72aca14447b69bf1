"""Given pairs, degradation replay and test samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.tasks.config import DataConfig
from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.images.decode import DataError, decode
from tests.tasks.files import pattern, write
from tests.tasks.tasks import IDS, Position, built, equal, positioned_task, task_of


@pytest.fixture(params=["gaussian_noise", "rain_streaks", "haze"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


# ----------------------------------------------------------------------------------------------------- pairs


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Any]:
    """Degraded images that are the negatives of their clean ones."""
    for number in range(6):
        clean = pattern(30, 40, number)
        write(tmp_path / "clean" / f"{number}.png", clean)
        write(tmp_path / "dirty" / f"{number}.png", 255 - clean)
    return {"input": str(tmp_path / "dirty"), "target": str(tmp_path / "clean")}


def test_both_images_of_a_pair_are_cut_and_flipped_alike(pairs: dict[str, Any]) -> None:
    batch = task_of(pairs, patch=16).batch(torch.arange(50))
    assert torch.allclose(batch.degraded, 1 - batch.clean, atol=1e-6)


def test_pairs_have_test_samples_too(pairs: dict[str, Any]) -> None:
    task = task_of({**pairs, "test": pairs}, patch=16)
    samples = list(task.test_samples())
    assert [sample.image for sample in samples] == [f"{n}.png" for n in range(6)]
    assert torch.allclose(samples[0].degraded, 1 - samples[0].clean, atol=1e-6)
    assert samples[0].clean.shape == (1, 3, 30, 40) and {sample.variant for sample in samples} == {""}


def test_repeats_count_in_the_size_only(pairs: dict[str, Any]) -> None:
    test = {**pairs, "test": pairs}
    once, often = task_of(test, patch=16), task_of({**test, "repeats": 120}, patch=16)
    assert (once.size, often.size) == (6, 720)
    assert equal(once.batch(IDS), often.batch(IDS))


# ------------------------------------------------------------------------------------------ degradation replay


def test_replay_takes_the_image_of_one_task_and_the_parameters_of_another() -> None:
    data = {"clean": "embedded", "patch": 32}
    tasks = built({"old": {"degradation": "haze"}, "new": {"degradation": "rain_streaks"}}, **data)
    tasks["old"].degradation = Position()
    image_ids, ids = torch.tensor([5, 6, 7]), torch.tensor([40, 2, 2])
    batch = tasks["old"].batch_on(tasks["new"], image_ids, ids)
    assert batch.task == "old" and torch.equal(batch.ids, ids)
    assert torch.equal(batch.clean, tasks["new"].batch(image_ids).clean)
    assert torch.equal(batch.degraded[:, 2], tasks["old"].batch(ids).degraded[:, 2])


def test_replay_on_itself_is_the_sample_itself(name: str) -> None:
    task = task_of({"degradation": name})
    assert equal(task.batch_on(task, IDS, IDS), task.batch(IDS))


@pytest.mark.error("strategy: degradation replay of given pairs")
def test_given_pairs_cannot_be_replayed_on_other_images(pairs: dict[str, Any]) -> None:
    tasks = built({"given": pairs, "haze": {"degradation": "haze"}}, patch=16)
    assert tasks["haze"].batch_on(tasks["given"], IDS, IDS).clean.shape == (20, 3, 16, 16)
    with pytest.raises(ValueError, match="task given: its degraded images are given"):
        tasks["given"].batch_on(tasks["haze"], IDS, IDS)


# ----------------------------------------------------------------------------------------------- test samples


def test_test_samples_are_whole_photographs_in_order() -> None:
    samples = list(task_of({"degradation": "gaussian_noise", "sigma": [15, 50]}).test_samples())
    assert [(sample.variant, sample.image) for sample in samples] == [
        ("sigma15", "china.jpg"),
        ("sigma15", "coffee.png"),
        ("sigma50", "china.jpg"),
        ("sigma50", "coffee.png"),
    ]
    assert samples[0].clean.shape == (1, 3, 427, 640) == samples[0].degraded.shape
    noise = [(sample.degraded - sample.clean).std().item() * 255 for sample in samples]
    assert noise[0] < 16 < 35 < noise[2]


def test_test_samples_do_not_depend_on_seed_limit_or_other_tasks(name: str) -> None:
    reference = {(s.variant, s.image): s for s in built({"one": {"degradation": name}}, 0)["one"].test_samples()}
    other = built({"more": {"degradation": "haze"}, "one": {"degradation": name}}, 1, test_limit=1, patch=16)["one"]
    samples = list(other.test_samples())
    assert {sample.image for sample in samples} == {"china.jpg"}
    assert all(torch.equal(s.degraded, reference[s.variant, s.image].degraded) for s in samples)


def test_test_samples_of_two_variants_are_degraded_independently(tmp_path: Path) -> None:
    positioned = positioned_task(tmp_path)
    light, heavy = positioned.test_samples()
    assert light.degraded[0, 2, 0, 0] != heavy.degraded[0, 2, 0, 0]


def test_a_test_crop_is_the_centre_and_knows_where_it_is(tmp_path: Path) -> None:
    positioned = positioned_task(tmp_path)
    positioned.data = DataConfig(test_crop=10)
    sample = next(positioned.test_samples())
    y, x = (sample.clean[0, :2] * 255).round().long()
    assert sample.clean.shape == (1, 3, 10, 10) and (y[0, 0], x[0, 0]) == (10, 20)
    assert torch.allclose(sample.degraded[0, 0], y / 30) and torch.allclose(sample.degraded[0, 1], x / 50)


def test_a_test_crop_takes_all_of_a_smaller_side(tmp_path: Path) -> None:
    positioned = positioned_task(tmp_path)
    positioned.data = DataConfig(test_crop=40)
    assert next(positioned.test_samples()).clean.shape == (1, 3, 30, 40)


def test_clean_test_images_are_the_files() -> None:
    sample = next(task_of({"degradation": "haze"}).test_samples())
    expected = torch.from_numpy(decode(embedded_files("test")["china.jpg"])).permute(2, 0, 1)[None]
    assert torch.equal((sample.clean * 255).round().byte(), expected)


@pytest.mark.error("data: no validation images")
def test_without_validation_images_the_way_out_is_named() -> None:
    with pytest.raises(DataError, match=r"data\.val=0\.2.*tasks\.one\.val"):
        task_of({"degradation": "haze"}).val_samples()
