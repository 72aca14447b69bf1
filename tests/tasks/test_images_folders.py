"""Hostile folders: dangling links, pipes and endless trees. Each gets a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.images import decode as module
from cmtl_ir.tasks.images.decode import DataError, decode, image_files
from cmtl_ir.tasks.images.store import ImageStore
from cmtl_ir.tasks.verification import verify
from tests.tasks.files import folder_of, pattern, write


def spoil(file: Path, how: str) -> None:
    """Put something under the name of an image that cannot be read as one."""
    if how == "link":
        file.symlink_to("moved/elsewhere.png")
    elif how == "circle":
        file.symlink_to(file)
    elif how == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")


SPOILT = {
    "link": r"a symbolic link to moved/elsewhere\.png, which does not exist",
    "circle": r"a symbolic link to .*shot\.png, which does not exist",
    "pipe": "a named pipe, not a file",
    "device": "a device, not a file",
}


@pytest.mark.parametrize("how", [pytest.param(one, marks=pytest.mark.error(f"images: {one}")) for one in SPOILT])
def test_what_is_no_file_is_named(tmp_path: Path, how: str) -> None:
    folder = folder_of(tmp_path / "photos", ["a.png", "b.png"])
    spoil(folder / "shot.png", how)
    words = rf"shot\.png: {SPOILT[how]}; repair or remove the file"
    with pytest.raises(DataError, match=words):
        decode(folder / "shot.png")
    with pytest.raises(DataError, match=rf"{words}, or set `data\.on_error: skip`"):
        ImageStore.open(folder, tmp_path / "cache")


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_no_file_may_be_skipped(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_of(tmp_path / "photos", ["a.png", "b.png"])
    spoil(folder / "shot.png", how)
    for _ in range(2):
        assert ImageStore.open(folder, tmp_path / "cache", "skip").names == ("a.png", "b.png")
    assert "shot.png" in caplog.text and "on_error" not in caplog.text
    (folder / "shot.png").unlink()
    write(folder / "shot.png")
    assert len(ImageStore.open(folder, tmp_path / "cache", "skip")) == 3, "mended"


@pytest.mark.parametrize("how", SPOILT)
def test_verify_names_what_is_no_file(tmp_path: Path, how: str) -> None:
    folder = folder_of(tmp_path / "photos", ["a.png", "b.png"])
    spoil(folder / "shot.png", how)
    tasks = {"one": TaskConfig.model_validate({"degradation": "haze"})}
    for finding in verify(tasks, DataConfig(clean=str(folder), test=str(folder), patch=8)):
        (problem,) = finding.problems
        assert finding.found == 2 and problem.startswith(f"unreadable: {folder / 'shot.png'}: a ")


@pytest.mark.error("data: a source that is a {how}")
@pytest.mark.parametrize("how", SPOILT)
def test_a_source_that_is_no_file_is_named(tmp_path: Path, how: str) -> None:
    spoil(tmp_path / "shot.png", how)
    with pytest.raises(DataError, match=rf"shot\.png: {SPOILT[how]}; name a folder or an image file"):
        image_files(tmp_path / "shot.png")


@pytest.mark.error("data: a path that no system has")
@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "~nobody here/photos", "/dev/null/photos"])
def test_a_path_that_no_system_has_is_named(path: str) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        image_files(path)


# ------------------------------------------------------------------------------------------- what is an image


@pytest.mark.parametrize("suffix", [".ppm", ".pgm", ".jp2", ".JP2"])
def test_formats_of_the_field_are_read(tmp_path: Path, suffix: str) -> None:
    grey = suffix == ".pgm"
    image = pattern()[..., 0] if grey else pattern()
    image = image if "jp" not in suffix.lower() else np.full_like(image, 77)
    Image.fromarray(image).save(tmp_path / f"a{suffix}")
    assert list(image_files(tmp_path)) == [f"a{suffix}"]
    assert np.array_equal(decode(tmp_path / f"a{suffix}"), image[..., None].repeat(3, 2) if grey else image)


def test_a_folder_that_is_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    folder_of(tmp_path / "set", ["shots.png/a.png", "shots.png/deep.jpg/b.png", "c.png"])
    (tmp_path / "set" / "empty.png").mkdir()
    assert list(image_files(tmp_path / "set")) == ["c.png", "shots.png/a.png", "shots.png/deep.jpg/b.png"]
    assert list(image_files(tmp_path / "set" / "shots.png")) == ["a.png", "deep.jpg/b.png"]


def test_what_other_systems_leave_behind_is_passed_over(tmp_path: Path) -> None:
    folder_of(tmp_path, ["a.png"])
    for name in ("._a.png", ".hidden/b.png", "__MACOSX/c.png", "__MACOSX/._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    assert list(image_files(tmp_path)) == ["a.png"]


# ------------------------------------------------------------------------------------------- without an end


class Entry:
    """An entry of a folder that does not end."""

    def __init__(self, name: str, is_folder: bool) -> None:
        self.name, self.is_dir = name, lambda: is_folder


@pytest.mark.error("data: a folder without an end")
@pytest.mark.parametrize(
    ("is_folder", "words"), [(True, "more than 64 folders deep"), (False, "more than 10,000 entries")]
)
def test_a_search_without_an_end_is_given_up(
    tmp_path: Path, is_folder: bool, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def listing(folder: Path) -> Iterator[Iterator[Entry]]:
        yield (Entry(str(number), is_folder) for number in (range(1) if is_folder else count()))

    monkeypatch.setattr(module.os, "scandir", listing)
    monkeypatch.setattr(module, "MOST_ENTRIES", 10_000)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with pytest.raises(DataError, match=rf"{tmp_path}: searching.*{words}; name the folder that holds the images"):
        image_files(tmp_path)
    assert f"{tmp_path}: still looking for images" in caplog.text


def test_a_folder_that_may_not_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder_of(tmp_path / "set", ["a.png", "lost+found/b.png"])
    true = os.scandir

    def refusing(folder: Path) -> Any:
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return true(folder)

    monkeypatch.setattr(module.os, "scandir", refusing)
    assert list(image_files(tmp_path / "set")) == ["a.png"]
    assert "lost+found: cannot be opened (Permission denied)" in caplog.text
