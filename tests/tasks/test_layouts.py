"""Data sets known by name: every row of the table is found on disk as described, in any folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.datasets.named import Role, pairs_of
from cmtl_ir.tasks.datasets.record import Form, place
from cmtl_ir.tasks.datasets.table import LAYOUTS
from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.images.pairs import open_pairs
from cmtl_ir.tasks.sources import PairsConfig
from cmtl_ir.tasks.suite import build_tasks, open_source
from cmtl_ir.tasks.task import Task
from tests.tasks.files import folder_of, write
from tests.tasks.trees import tree

FORMS = [
    pytest.param(name, split, form, id=f"{name}-{split}-{number}")
    for name, row in LAYOUTS.items()
    for split in row.splits
    for number, form in enumerate(row.forms(split))
]


def task_of(task: dict[str, Any], **data: Any) -> Task:
    read = {"one": TaskConfig.model_validate(task)}
    return build_tasks(read, DataConfig.model_validate({"patch": 16, **data}), 0, torch.device("cpu"))["one"]


def names(task: Task) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return task.splits.train.names, task.splits.test.names


# ------------------------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize(("name", "split", "form"), FORMS)
def test_every_form_of_every_split_is_found(tmp_path: Path, name: str, split: str, form: Form) -> None:
    root = tree(tmp_path / "set", form)
    if form.degraded is None:
        store = open_source(DataConfig(clean={"dataset": name, "root": str(root), "split": split}).clean, "train")
        assert len(store) == 2
        return
    config = pairs_of(PairsConfig(dataset=name, root=str(root), split=split), "train", None)
    pairs = open_pairs(config, tmp_path / "cache")
    assert len(pairs) == 2
    assert all(np.array_equal(clean // 2, degraded) for degraded, clean in map(pairs.pair, range(2)))


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
def test_a_row_says_where_a_set_comes_from_and_what_it_holds(row: Any) -> None:
    assert row.source and row.terms and row.splits and row.folder
    forms = [form for split in row.splits for form in row.forms(split)]
    assert all((form.degraded is not None) is row.paired for form in forms) and len(forms) >= len(row.splits)
    assert all(part.count is None or part.count > 0 for part in row.splits.values())


def test_the_sets_of_the_field_are_known() -> None:
    wanted = """bsd400 bsds500 wed div2k flickr2k urban100 cbsd68 kodak24 mcmaster set5 set14 bsd100 manga109 rain100l
    rain100h rain13k rain1400 spa outdoor_rain raindrop ots its sots_outdoor sots_indoor hsts dense_haze nh_haze gopro
    hide realblur_j realblur_r lol_v1 lol_v2_real lol_v2_synthetic snow100k csd realsnow sidd polyu istd srd allweather
    weatherstream mio100 cdd11"""
    assert set(wanted.split()) == set(LAYOUTS)


def test_all_kinds_of_cdd11_stand_next_to_their_clean_images(tmp_path: Path) -> None:
    for kind in ("clear", "haze", "low_snow"):
        folder_of(tmp_path / "CDD-11_test" / kind, ["1.png", "2.png"])
    pairs = open_pairs(pairs_of(PairsConfig(dataset="cdd11", root=str(tmp_path)), "test", None), tmp_path / "cache")
    assert pairs.names == ("haze/1.png", "haze/2.png", "low_snow/1.png", "low_snow/2.png")
    assert all(np.array_equal(*pairs.pair(number)) for number in range(4))


def test_counts_agree_with_each_other() -> None:
    count = {(name, split): part.count for name, row in LAYOUTS.items() for split, part in row.splits.items()}
    assert count["bsd400", "train"] + count["wed", "train"] == 5144  # AirNet's clean images  # type: ignore[operator]
    assert count["ots", "train"] == 2061 * 5 * 7  # clean images, airlights, betas
    assert sum(count["snow100k", split] or 0 for split in ("test", "test_m", "test_s")) == 50000
    assert (count["realblur_j", "train"], count["realblur_j", "test"]) == (3758, 980)
    assert count["realblur_j", "all"] == 3758 + 980


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("train/{scene}/blur/{frame}", ("train", "{scene}/blur/{frame}")),
        ("{name}_real", ("", "{name}_real")),
        ("a/b/part*/{name}_*", ("a/b", "part*/{name}_*")),
    ],
)
def test_a_place_is_a_folder_and_a_pattern(pattern: str, parts: tuple[str, str]) -> None:
    assert place(pattern) == parts


# --------------------------------------------------------------------------------------------------- names and disks


@pytest.fixture
def rain(tmp_path: Path) -> Path:
    """Rain100L below a data root: three training pairs, two test pairs."""
    root = tmp_path / "data" / "Rain100L"
    tree(root, LAYOUTS["rain100l"].splits["train"].forms[0], 3)
    return tree(root, LAYOUTS["rain100l"].splits["test"].forms[0], 2)


def test_a_set_brings_its_own_test_images(rain: Path) -> None:
    task = task_of({"dataset": "rain100l", "root": str(rain)})
    assert names(task) == (tuple(f"name{i}x2.png" for i in range(3)), tuple(f"name{i}x2.png" for i in range(2)))


def test_sets_are_found_below_one_root(rain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of({"dataset": "rain100l"}, root=str(rain.parent))
    monkeypatch.setenv("CMTL_IR_DATA", str(rain.parent))
    assert task_of({"dataset": "rain100l"}).digest == task.digest
    assert task_of({"dataset": "rain100l"}).test_digest == task.test_digest


def test_letter_case_of_folders_does_not_matter(rain: Path) -> None:
    before = task_of({"dataset": "rain100l"}, root=str(rain.parent)).digest
    (rain / "rain_data_train_Light").rename(rain / "RAIN_data_train_light")
    rain.rename(rain.parent / "rain100l")
    assert task_of({"dataset": "rain100l"}, root=str(rain.parent)).digest == before


def test_a_named_set_is_the_same_data_as_its_folders(rain: Path) -> None:
    folders = {
        key: str(rain / f"rain_data_train_Light/{one}") for key, one in (("input", "rain"), ("target", "norain"))
    }
    pairs = {**folders, "input_name": "{name}x2", "test": {"dataset": "rain100l", "root": str(rain)}}
    assert task_of(pairs).digest == task_of({"dataset": "rain100l", "root": str(rain)}).digest


@pytest.mark.error("data sets: no folder is named")
def test_without_any_root_the_error_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMTL_IR_DATA", raising=False)
    with pytest.raises(DataError, match=r"rain100l\? .*data\.root=FOLDER.*CMTL_IR_DATA.*comes from: Yang"):
        task_of({"dataset": "rain100l"})


@pytest.mark.error("data sets: a missing folder")
def test_a_missing_folder_is_told_with_what_was_expected(tmp_path: Path, rain: Path) -> None:
    with pytest.raises(DataError, match=r"no folder GoPro in .*comes from: Nah"):
        task_of({"dataset": "gopro"}, root=str(rain.parent))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no train images in .*empty; expected train/\{scene\}/blur/\{frame\}"):
        task_of({"dataset": "gopro", "root": str(tmp_path / "empty")})
    with pytest.raises(DataError, match=r"gopro: .*nowhere is not a folder .*correct `root:`"):
        task_of({"dataset": "gopro", "root": str(tmp_path / "nowhere")})


@pytest.mark.error("data sets: no test images")
def test_missing_test_images_are_not_replaced_by_training_images(tmp_path: Path) -> None:
    root = tree(tmp_path / "Rain100L", LAYOUTS["rain100l"].splits["train"].forms[0], 3)
    with pytest.raises(DataError, match="no test images"):
        task_of({"dataset": "rain100l", "root": str(root)})


@pytest.mark.error("data sets: a test set as training images")
def test_a_test_set_is_trained_on_only_by_its_split(tmp_path: Path) -> None:
    root = str(tree(tmp_path / "sots", LAYOUTS["sots_outdoor"].splits["test"].forms[0], 20))
    with pytest.raises(DataError, match="no train images, only test; name one with `split:`"):
        task_of({"dataset": "sots_outdoor", "root": root})
    task = task_of({"dataset": "sots_outdoor", "root": root, "split": "test"})
    assert [len(one) for one in names(task)] == [18, 2]


def test_a_set_that_was_never_split_serves_both_roles(tmp_path: Path) -> None:
    root = str(tree(tmp_path / "NH-HAZE", LAYOUTS["nh_haze"].splits["all"].forms[0], 20))
    assert [len(one) for one in names(task_of({"dataset": "nh_haze", "root": root}))] == [18, 2]
    roles: list[Role] = ["train", "test"]
    assert len({pairs_of(PairsConfig(dataset="nh_haze", root=root), role, None).input for role in roles}) == 1


def test_all_weather_is_told_apart_by_names(tmp_path: Path) -> None:
    every = ["im_0001_s80_a04.png", "12_rain.png", "city_read_00012.png", "winter_rain_scene.png"]
    for side in ("input", "gt"):
        folder_of(tmp_path / side, every)
    found = {
        split: open_pairs(pairs_of(PairsConfig(dataset="allweather", root=str(tmp_path), split=split), "train", None))
        for split in LAYOUTS["allweather"].splits
    }
    assert {split: len(pairs) for split, pairs in found.items()} == {"train": 4, "rain": 1, "raindrops": 1, "snow": 2}
    assert found["snow"].names == ("city_read_00012.png", "winter_rain_scene.png")


def test_a_shared_folder_of_targets_is_no_fault(tmp_path: Path) -> None:
    row = LAYOUTS["hide"]
    root = tree(tmp_path / "HIDE", row.splits["train"].forms[0], 3)
    tree(root, Form("GT/other_{name}", "test/test-close-ups/other_{name}"), 2)
    assert [len(one) for one in names(task_of({"dataset": "hide", "root": str(root)}))] == [3, 2]


# ---------------------------------------------------------------------------------------------------- clean images


def test_clean_sets_may_be_joined(tmp_path: Path) -> None:
    for name, count in (("bsd400", 12), ("wed", 8)):
        tree(tmp_path / LAYOUTS[name].folder, LAYOUTS[name].splits["train"].forms[0], count)
    tree(tmp_path / "cbsd68", LAYOUTS["cbsd68"].splits["test"].forms[0], 3)
    clean = [{"dataset": "bsd400"}, {"dataset": "wed"}, str(folder_of(tmp_path / "mine", ["a b.png"]))]
    test = {"clean": {"dataset": "cbsd68"}}
    task = task_of({"degradation": "haze", "clean": clean, "test": test}, root=str(tmp_path))
    train, tested = names(task)
    assert len(train) == 12 + 8 + 1 and "wed/name3.png" in train and "mine/a b.png" in train and len(tested) == 3


def test_a_clean_set_with_test_images_is_split_as_published(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        tree(tmp_path / "DIV2K", LAYOUTS["div2k"].splits[split].forms[0], count)
    task = task_of({"degradation": "haze"}, clean={"dataset": "div2k", "root": str(tmp_path / "DIV2K")})
    assert [len(one) for one in names(task)] == [4, 2]


def test_low_resolution_twins_are_left_alone(tmp_path: Path) -> None:
    for name in ("img_001_SRF_2_HR.png", "img_001_SRF_2_LR.png"):
        write(tmp_path / "Set5" / "image_SRF_2" / name)
    source = DataConfig(clean={"dataset": "set5", "root": str(tmp_path / "Set5")}).clean
    assert open_source(source, "test").names == ("img_001_SRF_2_HR.png",)


def test_a_wrong_count_is_said_loudly(rain: Path, caplog: pytest.LogCaptureFixture) -> None:
    task_of({"dataset": "rain100l", "root": str(rain)})
    assert "rain100l: 3 images where its authors published 200 (train)" in caplog.text
    assert "rain100l: 2 images where its authors published 100 (test)" in caplog.text


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.error("data sets: a mistake in a source")
@pytest.mark.parametrize(
    ("task", "path", "words"),
    [
        ({"dataset": "rain10l"}, "", "did you mean rain100l"),
        ({"dataset": "wed"}, "", "clean: {dataset: wed}"),
        ({"dataset": "rain100l", "input": "a", "target": "b"}, "", "brings its own input and target"),
        ({"dataset": "rain100l", "input_name": "{name}_*"}, "", "brings its own input_name"),
        ({"dataset": "rain100l", "split": "tset"}, "", "no split 'tset'; it has train, test"),
        ({"input": "a", "target": "b", "root": "c"}, "", "belong to a dataset"),
        ({"degradation": "haze", "dataset": "ots"}, "", "expected either degradation"),
        ({"degradation": "haze", "clean": {"dataset": "rain100l"}}, "clean", "holds pairs"),
        ({"degradation": "haze", "clean": {"datset": "wed"}}, "clean.datset", ""),
        ({"degradation": "haze", "clean": [{"dataset": "wde"}]}, "clean", "did you mean wed"),
        ({"degradation": "haze", "clean": 3}, "clean", "expected `embedded`, a folder"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_path(task: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskConfig.model_validate(task)
    found = {".".join(map(str, one["loc"])): one["msg"] for one in caught.value.errors()}
    assert path in found and words in found[path], found


@pytest.mark.parametrize(
    "given",
    [
        {"dataset": "rain100l", "root": "folder", "repeats": 120},
        {"dataset": "allweather", "split": "snow", "test": {"dataset": "snow100k", "split": "test_s"}},
        {"degradation": "haze", "clean": [{"dataset": "wed"}, "folder"], "test": {"clean": {"dataset": "kodak24"}}},
    ],
)
def test_a_named_set_is_read_back_as_it_was_written(given: dict[str, Any]) -> None:
    task = TaskConfig.model_validate(given)
    for mode in ("json", "python"):
        assert TaskConfig.model_validate(task.model_dump(mode=mode)) == task
    assert "input_name" not in task.model_dump() or "dataset" not in given


# ---------------------------------------------------------------------------------------------------- the real sets


DATA = Path(os.environ.get("CMTL_IR_TEST_DATA", "no such folder"))


@pytest.mark.skipif(not DATA.is_dir(), reason="CMTL_IR_TEST_DATA names no folder with the sets of the field")
@pytest.mark.parametrize(
    ("name", "folder", "split", "count"),
    [
        ("rain100l", "Rain100L", "test", 10),
        ("rain100h", "Rain100H", "test", 10),
        ("rain13k", "Rain13K_sample", "train", 38),
        ("sots_outdoor", "SOTS_sample/outdoor", "test", 2),
        ("sots_indoor", "SOTS_sample/indoor", "test", 4),
        ("its", "ITS_sample", "train", 4),
        ("polyu", "PolyU", "all", 30),
        ("kodak24", "Kodak24", "test", 24),
        ("set5", "Set5", "test", 5),
        ("bsds500", "BSDS500", "train", 133),
        ("bsds500", "BSDS500", "test", 189),
    ],
)
def test_the_real_sets_are_found(name: str, folder: str, split: str, count: int) -> None:
    source = {"dataset": name, "root": str(DATA / folder), "split": split}
    if LAYOUTS[name].paired:
        assert len(open_pairs(pairs_of(PairsConfig.model_validate(source), "train", None))) == count
    else:
        assert len(open_source(DataConfig.model_validate({"clean": source}).clean, "train")) == count
