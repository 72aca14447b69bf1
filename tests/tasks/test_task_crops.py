"""Crops: every image once per epoch, every position and every orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cmtl_ir.tasks.images.crops import image_numbers
from tests.tasks.files import folder_of, pattern, write
from tests.tasks.tasks import built, positioned_task, task_of


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


def test_tasks_and_seeds_have_orders_of_their_own(tmp_path: Path) -> None:
    folder_of(tmp_path, [f"{number:02}.png" for number in range(40)])
    haze, data = {"degradation": "haze"}, {"clean": str(tmp_path), "test": str(tmp_path), "patch": 16}
    tasks = [built({name: haze}, seed, **data)[name] for name, seed in (("a", 0), ("b", 0), ("a", 1))]
    orders = {tuple(task._cut(torch.arange(40)).numbers.tolist()) for task in tasks}
    assert len(orders) == 3


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
    upright, turned = image.transpose(2, 0, 1), image.transpose(2, 1, 0)
    every = [upright, upright[:, :, ::-1], upright[:, ::-1], upright[:, ::-1, ::-1]]
    every += [turned, turned[:, :, ::-1], turned[:, ::-1], turned[:, ::-1, ::-1]]
    assert seen == {one.tobytes() for one in every[:kinds]}


def test_a_degradation_sees_the_flipped_photograph(tmp_path: Path) -> None:
    positioned = positioned_task(tmp_path)
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
