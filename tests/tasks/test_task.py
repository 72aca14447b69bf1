"""Claims about samples: the n-th one of a task is the same bits, whoever asks, whenever, beside whatever."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cmtl_ir import keyed
from cmtl_ir.strategy import Batch
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.crops import image_numbers
from cmtl_ir.tasks.degradation import Degradation
from cmtl_ir.tasks.images import DataError, decode
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from tests.tasks.files import folder_of, pattern, write

CPU = torch.device("cpu")


class Position(Degradation):
    """Writes down where it acts: the place of every pixel in the full image, and a number from its key."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"shade": keyed.uniform(keyed.substream(keys, "shade"))}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        degraded = torch.empty_like(clean)
        degraded[:, 0] = (origin[:, :1] + torch.arange(clean.shape[2]))[:, :, None] / size[:, :1, None]
        degraded[:, 1] = (origin[:, 1:] + torch.arange(clean.shape[3]))[:, None, :] / size[:, 1:, None]
        degraded[:, 2] = parameters["shade"][:, None, None]
        return degraded

    def variants(self) -> dict[str, Degradation]:
        return {"light": self, "heavy": self}


def built(tasks: dict[str, Any], seed: int = 0, **data: Any) -> dict[str, Task]:
    read = {name: TaskConfig.model_validate(task) for name, task in tasks.items()}
    return build_tasks(read, DataConfig.model_validate(data), seed, CPU)


def task_of(task: dict[str, Any], **data: Any) -> Task:
    return built({"one": task}, **data)["one"]


@pytest.fixture(params=["gaussian_noise", "rain_streaks", "haze"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def equal(one: Batch, other: Batch) -> bool:
    return torch.equal(one.degraded, other.degraded) and torch.equal(one.clean, other.clean)


def rows(batch: Batch, chosen: Tensor) -> Batch:
    return Batch(batch.task, batch.ids[chosen], batch.degraded[chosen], batch.clean[chosen])


IDS = torch.arange(3, 23)

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


# ---------------------------------------------------------------------------------------------- epochs and crops


@pytest.mark.parametrize("count", [1, 2, 5, 7, 64, 1000, 1024, 1025, 3000])
def test_every_image_comes_once_an_epoch(count: int) -> None:
    numbers = image_numbers(7, torch.arange(3 * count), count).view(3, count)
    assert torch.equal(numbers.sort(dim=1).values, torch.arange(count).expand(3, count))
    if count > 4:
        assert not torch.equal(numbers[0], numbers[1]) and not torch.equal(numbers[1], numbers[2])


def test_every_image_comes_equally_often_at_every_place_of_an_epoch() -> None:
    numbers = image_numbers(3, torch.arange(5 * 4000), 5).view(4000, 5)
    counts = torch.stack([torch.bincount(numbers[:, place], minlength=5) for place in range(5)])
    assert (counts - 800).abs().max() < 5 * (4000 * 0.2 * 0.8) ** 0.5


def test_an_epoch_of_a_task_shows_every_image_once(tmp_path: Path) -> None:
    for shade in range(10):
        write(tmp_path / f"{shade}.png", np.full((20, 20, 3), shade, np.uint8))
    task = task_of({"degradation": "haze"}, clean=str(tmp_path), test=str(tmp_path), patch=16)
    shades = (task.batch(torch.arange(30)).clean[:, 0, 0, 0] * 255).round().long().view(3, 10)
    assert torch.equal(shades.sort(dim=1).values, torch.arange(10).expand(3, 10))


def test_crops_reach_every_place_in_every_orientation(tmp_path: Path) -> None:
    write(tmp_path / "a.png", pattern(10, 9))
    task = task_of({"degradation": "haze"}, clean=str(tmp_path), test=str(tmp_path), patch=8)
    seen = {crop.numpy().tobytes() for crop in task.batch(torch.arange(600)).clean}
    assert len(seen) == 3 * 2 * 8


@pytest.mark.parametrize(("flips", "kinds"), [("none", 1), ("horizontal", 2), ("dihedral", 8)])
def test_flips_are_those_asked_for(tmp_path: Path, flips: str, kinds: int) -> None:
    image = pattern(8, 8)
    write(tmp_path / "a.png", image)
    task = task_of({"degradation": "haze"}, clean=str(tmp_path), test=str(tmp_path), patch=8, flips=flips)
    seen = {(crop * 255).round().byte().numpy().tobytes() for crop in task.batch(torch.arange(200)).clean}
    planar = torch.from_numpy(image).permute(2, 0, 1)
    allowed = [planar, planar.flip(2)]
    allowed += [one for base in (planar.transpose(1, 2),) for one in (base, base.flip(2))]
    allowed += [one.flip(1) for one in allowed]
    allowed = [one.contiguous().numpy().tobytes() for one in allowed]
    assert len(seen) == kinds and seen <= set(allowed[: max(kinds, 1)] if kinds < 8 else allowed)


@pytest.fixture
def positioned(tmp_path: Path) -> Iterator[Task]:
    """A task whose clean image says at every pixel where it is, so that the degradation can be checked against it."""
    y, x = np.mgrid[0:30, 0:50]
    write(tmp_path / "a.png", np.stack([y, x, 0 * x], axis=2).astype(np.uint8))
    task = task_of({"degradation": "haze"}, clean=str(tmp_path), test=str(tmp_path), patch=16)
    task.degradation = Position()
    yield task


def test_a_degradation_sees_the_flipped_photograph(positioned: Task) -> None:
    batch = positioned.batch(torch.arange(100))
    cut = positioned._cut(torch.arange(100))
    stored = (batch.clean * 255).round().long()  # [B, 3, P, P]: y and x in the stored image
    for b, flip in enumerate(cut.flips.tolist()):
        y, x = (1, 0) if flip & 4 else (0, 1)
        expected_y, expected_x = stored[b, y], stored[b, x]
        height, width = cut.size[b].tolist()
        assert (height, width) == ((50, 30) if flip & 4 else (30, 50))
        expected_y = height - 1 - expected_y if flip & 2 else expected_y
        expected_x = width - 1 - expected_x if flip & 1 else expected_x
        assert torch.allclose(batch.degraded[b, 0], expected_y / height)
        assert torch.allclose(batch.degraded[b, 1], expected_x / width)
    assert set(cut.flips.tolist()) == set(range(8))


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


def test_test_samples_of_two_variants_are_degraded_independently(positioned: Task) -> None:
    light, heavy = positioned.test_samples()
    assert light.degraded[0, 2, 0, 0] != heavy.degraded[0, 2, 0, 0]


def test_a_test_crop_is_the_centre_and_knows_where_it_is(positioned: Task) -> None:
    positioned.data = DataConfig(test_crop=10)
    sample = next(positioned.test_samples())
    y, x = (sample.clean[0, :2] * 255).round().long()
    assert sample.clean.shape == (1, 3, 10, 10) and (y[0, 0], x[0, 0]) == (10, 20)
    assert torch.allclose(sample.degraded[0, 0], y / 30) and torch.allclose(sample.degraded[0, 1], x / 50)


def test_a_test_crop_takes_all_of_a_smaller_side(positioned: Task) -> None:
    positioned.data = DataConfig(test_crop=40)
    assert next(positioned.test_samples()).clean.shape == (1, 3, 30, 40)


def test_clean_test_images_are_the_files() -> None:
    from cmtl_ir.tasks.embedded import embedded_files

    sample = next(task_of({"degradation": "haze"}).test_samples())
    expected = torch.from_numpy(decode(embedded_files("test")["china.jpg"])).permute(2, 0, 1)[None]
    assert torch.equal((sample.clean * 255).round().byte(), expected)


def test_without_validation_images_the_way_out_is_named() -> None:
    with pytest.raises(DataError, match=r"data\.val=0\.2.*tasks\.one\.val"):
        task_of({"degradation": "haze"}).val_samples()


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
