"""Images of a task: training, test and validation sets are disjoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.heldout import hold_out
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from tests.tasks.files import folder_of, pattern, write

HAZE = {"degradation": "haze"}
TEST = ("china.jpg", "coffee.png")
TRAIN = ("astronaut.png", "chelsea.png", "flower.jpg", "grace_hopper.jpg", "rocket.jpg")


def task_of(task: dict[str, Any], seed: int = 0, **data: Any) -> Task:
    read = {"one": TaskConfig.model_validate(task)}
    return build_tasks(read, DataConfig.model_validate({"patch": 16, **data}), seed, torch.device("cpu"))["one"]


def names(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return task.splits.train.names, task.splits.test.names


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(folder_of(tmp_path / "photos", [f"{number:02}.png" for number in range(30)]))


@pytest.fixture
def other(tmp_path: Path) -> str:
    return str(folder_of(tmp_path / "other", ["x.png", "y.png"]))


def test_embedded_photographs_are_split_by_whole_images() -> None:
    assert names(task_of(HAZE)) == (TRAIN, TEST)


def test_a_test_folder_may_be_given_alone(other: str) -> None:
    assert names(task_of(HAZE, test=other)) == (TRAIN, ("x.png", "y.png"))


def test_a_training_folder_may_be_given_alone(other: str) -> None:
    assert names(task_of(HAZE, train=other)) == (("x.png", "y.png"), TEST)


def test_of_a_folder_a_tenth_is_held_out(folder: str) -> None:
    train, test = names(task_of(HAZE, clean=folder))
    assert len(test) == 3 and sorted(train + test) == [f"{number:02}.png" for number in range(30)]


def test_of_a_folder_all_is_trained_on_when_test_images_are_named(folder: str, other: str) -> None:
    train, test = names(task_of(HAZE, clean=folder, test=other))
    assert len(train) == 30 and test == ("x.png", "y.png")


def test_a_task_may_have_its_own_images(folder: str, other: str) -> None:
    assert len(task_of({**HAZE, "clean": folder}).splits.train) == 27
    assert names(task_of({**HAZE, "test": {"clean": other}})) == (TRAIN, ("x.png", "y.png"))
    assert names(task_of({**HAZE, "clean": other, "test": {"clean": folder}}, train=folder))[0] == ("x.png", "y.png")


def test_synthetic_training_may_be_tested_on_pairs(folder: str) -> None:
    task = task_of({**HAZE, "test": {"input": folder, "target": folder}})
    assert task.splits.train.names == TRAIN and len(list(task.test_samples())) == 30


def test_validation_images_are_carved_from_the_training_images(folder: str, other: str) -> None:
    task = task_of(HAZE, clean=folder, val=0.2)
    train, val, test = task.splits.train.names, [s.image for s in task.val_samples()], task.splits.test.names
    assert (len(train), len(val), len(test)) == (22, 5, 3) and len({*train, *val, *test}) == 30
    assert [s.image for s in task_of(HAZE, val=other).val_samples()] == ["x.png", "y.png"]
    assert len(list(task_of({**HAZE, "val": {"clean": other}}).val_samples())) == 2


def test_pairs_of_one_clean_image_are_never_split(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", [f"{scene}_{level}.png" for scene in range(20) for level in range(5)])
    folder_of(tmp_path / "gt", [f"{scene}.png" for scene in range(20)])
    pairs = {"input": str(tmp_path / "in"), "target": str(tmp_path / "gt"), "input_name": "{name}_*"}
    splits = task_of(pairs, val=0.2).splits
    assert splits.val is not None
    scenes = [set(split.groups) for split in (splits.train, splits.test, splits.val)]
    assert [len(one) for one in scenes] == [14, 2, 4] and len(set.union(*scenes)) == 20


@pytest.mark.parametrize("how", ["copied", "linked"])
def test_pairs_of_clean_images_with_the_same_pixels_are_never_split(tmp_path: Path, how: str) -> None:
    """Some data sets repeat the clean image for each degraded one, so that both folders have the same names."""
    names = [f"{scene}_{level}.png" for scene in range(20) for level in range(5)]
    folder_of(tmp_path / "in", names)
    for scene in range(20):
        first = write(tmp_path / "gt" / f"{scene}_0.png", pattern(seed=scene))
        for level in range(1, 5):
            copy = tmp_path / "gt" / f"{scene}_{level}.png"
            copy.symlink_to(first) if how == "linked" else write(copy, pattern(seed=scene))
    splits = task_of({"input": str(tmp_path / "in"), "target": str(tmp_path / "gt")}, val=0.2).splits
    assert splits.val is not None
    scenes = [{name.partition("_")[0] for name in one.names} for one in (splits.train, splits.test, splits.val)]
    assert [len(one) for one in scenes] == [14, 2, 4] and len(set.union(*scenes)) == 20


def test_clean_images_with_the_same_pixels_are_never_split(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / f"{number:02}.png", pattern(seed=number % 10))
    train, test = names(task_of(HAZE, clean=str(tmp_path)))
    shown = [{int(name[:2]) % 10 for name in side} for side in (train, test)]
    assert len(test) == 4 and len(shown[1]) == 1 and not shown[0] & shown[1]


@pytest.mark.error("data: copies of one image alone")
def test_copies_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    write(tmp_path / "a.png"), write(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"1 of 1 distinct image\(s\), a\.png.*data\.test"):
        task_of(HAZE, clean=str(tmp_path))


def test_what_is_held_out_depends_on_names_alone(folder: str, tmp_path: Path) -> None:
    moved = folder_of(tmp_path / "moved", [f"{number:02}.png" for number in range(30)])
    assert names(task_of(HAZE, clean=folder)) == names(task_of(HAZE, clean=str(moved)))


@pytest.mark.error("data: too few images to hold some out")
def test_one_image_cannot_be_split(tmp_path: Path) -> None:
    write(tmp_path / "only.png")
    with pytest.raises(DataError, match=r"cannot hold out 1 of 1 distinct image\(s\), only\.png.*data\.test"):
        task_of(HAZE, clean=str(tmp_path))


def test_rotation_tests_every_photograph_and_never_trains_on_it() -> None:
    rotated = [names(task_of(HAZE, seed, holdout="rotate")) for seed in range(4)]
    assert all(len(test) == 2 and sorted(train + test) == sorted(TRAIN + TEST) for train, test in rotated)
    tested = [name for _, test in rotated[:3] for name in test]
    assert len(set(tested)) == 6 and set(tested) | set(rotated[3][1]) == set(TRAIN + TEST)
    assert names(task_of({"degradation": "jpeg"}, 2, holdout="rotate")) == rotated[2]


def test_rotation_goes_round_a_folder_its_pairs_and_its_validation_images(folder: str) -> None:
    pairs = {"input": folder, "target": folder}
    for config, data in ((HAZE, {"clean": folder}), (pairs, {})):
        splits = [task_of(config, seed, **data, val=0.2, holdout="rotate").splits for seed in range(10)]
        assert sorted(name for one in splits for name in one.test.names) == [f"{n:02}.png" for n in range(30)]
        for one in splits:
            assert one.val is not None
            parts = [set(side.names) for side in (one.train, one.val, one.test)]
            assert [len(part) for part in parts] == [22, 5, 3] and len(set.union(*parts)) == 30
        assert names(task_of(config, 0, **data, holdout="rotate")) == names(task_of(config, 7, **data))


def test_images_added_for_training_are_never_held_out(folder: str) -> None:
    for seed in range(3):
        splits = task_of(HAZE, seed, clean=folder, textures=True, dead_leaves=2, val=0.3, holdout="rotate").splits
        assert splits.val is not None
        added = [name for name in splits.train.names if name.startswith("extra:")]
        assert len(added) == 7 and not any(name.startswith("extra:") for name in splits.test.names + splits.val.names)
        assert [len(splits.train), len(splits.val), len(splits.test)] == [19 + 7, 8, 3]
    assert len(task_of(HAZE, textures=True).splits.train) == len(TRAIN) + 5
    assert len(task_of({"input": folder, "target": folder}, textures=True).splits.train) == 27


def test_a_store_is_opened_once_for_all_tasks(folder: str) -> None:
    read = {name: TaskConfig.model_validate(HAZE) for name in "abc"}
    tasks = build_tasks(read, DataConfig(clean=folder, test=folder, patch=16), 0, torch.device("cpu"))
    assert len({id(task.splits.train) for task in tasks.values()}) == 1


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.error("data: training images smaller than a crop")
def test_images_smaller_than_a_crop_are_named(folder: str) -> None:
    write(Path(folder) / "tiny one.png", pattern(100, 15))
    with pytest.raises(DataError, match=r"smaller than a crop of 16x16: tiny one\.png \(15x100\); lower data\.patch"):
        task_of(HAZE, clean=folder, test=folder)
    assert len(task_of(HAZE, clean=folder, test=folder, on_error="skip").splits.train) == 30


def test_skipping_every_image_is_an_error(folder: str) -> None:
    with pytest.raises(DataError, match=r"00\.png \(56x40\).* \.\.\.; lower data\.patch"):
        task_of(HAZE, clean=folder, test=folder, patch=64, on_error="skip")


@pytest.mark.error("data: an empty folder")
def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        task_of(HAZE, clean=str(tmp_path))


@pytest.mark.error("data: an empty list of folders")
def test_an_empty_list_is_an_error() -> None:
    with pytest.raises(DataError, match="list of image folders is empty; name a folder"):
        task_of(HAZE, clean=[])


@pytest.mark.error("tasks: a name that is not allowed")
@pytest.mark.parametrize("name", ["Rain", "1rain", "rain-x", "", "rain.x", "r" * 65, "mean", "step", "memory"])
def test_task_names_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match=r"task names match .*; rename|has a meaning of its own"):
        build_tasks({name: TaskConfig.model_validate(HAZE)}, DataConfig(), 0, torch.device("cpu"))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_held_out_share_is_at_least_one_and_as_large_as_asked(folder: str, share: float) -> None:
    whole = task_of(HAZE, clean=folder, test=folder).splits.train
    rest, held = hold_out(whole, share)
    assert len(held) == max(1, round(30 * share)) and len(rest) + len(held) == 30
    assert list(rest.names) == sorted(rest.names)
