"""Claims about leaks: a copy is found however it is dressed, and no two photographs are taken for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.leaks import leaks, shared_images
from cmtl_ir.tasks.store import ImageStore
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
    assert all(one.similarity > 0.999 for one in found)
