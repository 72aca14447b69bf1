"""Claims about where decoded images are kept: who may write, who waits for whom, what a user is told."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cmtl_ir.tasks.images import pack
from cmtl_ir.tasks.images.cache import default_cache
from cmtl_ir.tasks.images.decode import DataError, Decoded, read
from cmtl_ir.tasks.images.pack import open_pack
from cmtl_ir.tasks.images.store import ImageStore
from cmtl_ir.tasks.suite import open_source
from tests.tasks.files import folder_of, pattern

NAMES = ["a.png", "b with spaces.png", "deep/c.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_of(tmp_path / "photos", NAMES)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files in the order in which they are decoded."""
    seen: list[str] = []
    monkeypatch.setattr(pack, "read", lambda path, bits: (seen.append(path.name), read(path, bits))[1])
    return seen


def test_without_permission_a_temporary_folder_stands_in(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, decoded: list[str]
) -> None:
    (tmp_path / "no folder").write_text("a file: nothing can be made below it, not even by root")
    store = ImageStore.open(folder, tmp_path / "no folder" / "cache")
    assert np.array_equal(store.image(0), pattern(seed=0))
    assert "no folder" in caplog.text and "CMTL_IR_CACHE" in caplog.text
    caplog.clear()
    ImageStore.open(folder, tmp_path / "no folder" / "cache")
    assert len(decoded) == 3 and not caplog.text, "once a program"


def test_a_pack_is_read_where_nothing_may_be_written(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ImageStore.open(folder, cache)
    monkeypatch.setattr(pack, "writable", lambda folder: pytest.fail("asked to write"))
    assert len(ImageStore.open(folder, cache)) == 3 and not caplog.text


@pytest.mark.error("data: a full disk while images are packed")
def test_a_full_disk_names_the_way_out(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack, "_write_pixels", full)
    with pytest.raises(DataError, match=r"No space left on device.*CMTL_IR_CACHE"):
        ImageStore.open(folder, cache)


def test_the_environment_names_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMTL_IR_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert default_cache() == Path("/one")
    monkeypatch.delenv("CMTL_IR_CACHE")
    assert default_cache() == Path("/two/cmtl-ir")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "cmtl-ir"


def test_whoever_opens_at_once_builds_once(folder: Path, cache: Path, decoded: list[str]) -> None:
    with ThreadPoolExecutor(4) as threads:  # the lock is one of the file system: threads and processes alike
        digests = list(threads.map(lambda _: ImageStore.open(folder, cache).digest, range(4)))
    assert len(set(digests)) == 1 and len(decoded) == 3


def test_the_index_can_be_read_by_others(folder: Path, cache: Path) -> None:
    store = ImageStore.open(folder, cache)
    index = json.loads(next(cache.rglob("index.json")).read_text())
    pixels = np.fromfile(next(cache.rglob("pixels-*.u8")), np.uint8)
    (height, width), offset = index["sizes"][1], index["offsets"][1]
    assert np.array_equal(pixels[offset : offset + height * width * 3].reshape(height, width, 3), store.image(1))


def test_two_sources_do_not_push_each_other_out(folder: Path, cache: Path, decoded: list[str]) -> None:
    for _ in range(2):
        (
            ImageStore.open(folder, cache),
            ImageStore.open([folder / "a.png"], cache),
            ImageStore.open(folder / "deep", cache),
        )
    assert len(decoded) == 3 + 1 + 1


def test_a_bar_appears_only_when_it_takes_long(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ImageStore.open(folder, cache / "quick")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the captured stream for a terminal
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(pack, "PATIENCE", -1.0)
    ImageStore.open(folder, cache / "slow")
    out, shown = capsys.readouterr()
    assert out == "" and "decoding 3 images" in shown


@pytest.mark.error("data: files that change while they are read")
def test_files_that_change_during_the_reading_are_an_error(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1, 100))

    def touching(path: Path, bits: int | None) -> Decoded:
        os.utime(path, ns=(0, next(ticks)))
        return read(path, bits)

    monkeypatch.setattr(pack, "read", touching)
    with pytest.raises(DataError, match="change while they are being read; try again"):
        open_pack("key", {"a.png": folder / "a.png"}, cache)


def test_opening_a_known_folder_is_faster_than_decoding_it(cache: Path) -> None:
    def seconds() -> float:
        started = time.perf_counter()
        open_source("embedded", "train", cache)
        return time.perf_counter() - started

    first = seconds()
    assert min(seconds() for _ in range(3)) < first / 3
