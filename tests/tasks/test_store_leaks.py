"""Leaks: disguised copies are found, and no two different photographs are taken for one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cmtl_ir.cli import main
from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.images.store import ImageStore
from cmtl_ir.tasks.leaks import leaks, shared_images
from cmtl_ir.tasks.suite import build_tasks, open_source

DRESSES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "same": lambda image: image,
    "one pixel less": lambda image: image.crop((1, 1, image.width, image.height)),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "grey": lambda image: image.convert("L"),
    "darker": lambda image: image.point(lambda value: value * 0.7),
}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("quality", [30, 95])
def test_a_copy_is_found(tmp_path: Path, dress: str, quality: int) -> None:
    original = Image.open(embedded_files("train")["flower.jpg"])
    (tmp_path / "photos").mkdir()
    DRESSES[dress](original).save(tmp_path / "photos" / "copy.jpg", quality=quality)
    train, test = open_source("embedded", "train"), ImageStore.open(tmp_path / "photos")
    assert [(train.names[i], j) for i, j, _ in shared_images(train, test)] == [("flower.jpg", 0)]


def test_distinct_photographs_are_not_taken_for_one() -> None:
    whole = open_source("embedded", "train")
    assert [(i, j) for i, j, _ in shared_images(whole, whole)] == [(i, i) for i in range(len(whole))]
    assert shared_images(whole, open_source("embedded", "test")) == []


def test_leaks_are_found_across_tasks(tmp_path: Path) -> None:
    for side in ("input", "target"):
        (tmp_path / side).mkdir()
        Image.open(embedded_files("train")["rocket.jpg"]).save(tmp_path / side / "1.png")
    pairs = {"input": str(tmp_path / "input"), "target": str(tmp_path / "target")}
    given = {"haze": {"degradation": "haze"}, "noise": {"degradation": "gaussian_noise", "test": pairs}}
    tasks = {name: TaskConfig.model_validate(task) for name, task in given.items()}
    found = leaks(build_tasks(tasks, DataConfig(), 0, torch.device("cpu")))
    assert [(one.train_task, one.train_image, one.test_task, one.test_image) for one in found] == [
        ("haze", "rocket.jpg", "noise", "1.png"),
        ("noise", "rocket.jpg", "noise", "1.png"),
    ]
    assert all(one.similarity > 0.999 and one.exact for one in found)


def test_check_names_the_pairs_and_ends_with_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    Image.open(embedded_files("train")["flower.jpg"]).resize((320, 213)).save(tmp_path / "photos" / "again.jpg")
    Image.open(embedded_files("train")["rocket.jpg"]).save(tmp_path / "photos" / "copy.png")
    Image.open(embedded_files("test")["china.jpg"]).save(tmp_path / "photos" / "other.png")
    file = tmp_path / "leaky.yaml"
    tasks = "{noise: {degradation: gaussian_noise}, haze: {degradation: haze}}"
    file.write_text(f"name: leaky\ntasks: {tasks}\nstrategies: {{joint: {{}}}}\n")

    def said(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["data", "check", str(file), *more])
        return ended.value.code, capsys.readouterr().out

    code, text = said("--set", f"data.test={tmp_path / 'photos'}")
    assert code == 1 and "2 pairs of images leak" in text, text
    assert re.search(r"again.jpg, tested by haze, noise: a near-duplicate \(correlation [.\d]+\) of flower.jpg", text)
    assert "copy.png, tested by haze, noise: the same pixels as rocket.jpg, learnt from by haze, noise" in text
    assert "other.png" not in text
    assert said()[0] == 0 and "no leak" in said()[1]
