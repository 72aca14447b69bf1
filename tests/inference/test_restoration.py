"""A folder is restored whole, once, by one network; what cannot be written is refused before the network is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cmtl_ir import restore
from cmtl_ir.base.errors import UserError
from cmtl_ir.inference.journal import NAME
from cmtl_ir.inference.published import Published, published
from tests.inference.files import FIELDS, answer, checkpoint, command, network, photo


@pytest.fixture
def used(tmp_path: Path) -> Published:
    return checkpoint(tmp_path / "weights")


def written(folder: Path) -> list[str]:
    """Paths of all images below a folder."""
    return sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*.*") if one.name != NAME)


def restored_now(used: Published, source: Path, target: Path, **options: object) -> list[str]:
    """Names of the files that a call restores; those that were there before are not among them."""
    names: list[str] = []
    restore(used, source, target, told=lambda number, total, file: names.append(file.name), **options)  # type: ignore[arg-type]
    return names


# ----------------------------------------------------------------------------------------------- which files


def test_images_that_differ_in_their_suffix_alone_are_both_restored(used: Published, tmp_path: Path) -> None:
    sources = [photo(tmp_path / "in" / name, left) for left, name in enumerate(["a.bmp", "a.jpg", "a.png", "b.jpg"])]
    said: list[str] = []
    files = restore(used, tmp_path / "in", tmp_path / "out", say=said.append)
    assert written(tmp_path / "out") == ["a.bmp.png", "a.jpg.png", "a.png", "b.png"] and len(set(files)) == 4
    for source, file in zip(sources, files, strict=True):
        assert np.abs(np.asarray(Image.open(file)).astype(int) - answer(network(), source).astype(int)).max() <= 1
    assert any("a.bmp and another image share a name: written as a.bmp.png (2 such" in line for line in said)


def test_images_that_differ_in_case_and_suffix_do_not_share_a_file_on_any_system(
    used: Published, tmp_path: Path
) -> None:
    for name in ("A.jpg", "a.png", "B.png"):
        photo(tmp_path / "in" / name)
    restore(used, tmp_path / "in", tmp_path / "out")
    assert written(tmp_path / "out") == ["A.jpg.png", "B.png", "a.png"]


@pytest.mark.error("restore: two images with one target")
def test_images_that_would_share_a_file_all_the_same_are_refused(used: Published, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.bmp"):
        photo(tmp_path / "in" / name)
    with pytest.raises(UserError, match=r"a\.jpg and a\.jpg\.bmp would both be written to a\.jpg\.png; rename"):
        restore(used, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_is_read_by_the_rules_of_training(used: Published, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.ppm", "b.jp2", "shots.png/c.png"):
        photo(folder / name)
    Image.fromarray(np.zeros((20, 20), dtype=np.uint8)).save(folder / "grey.pgm")
    (folder / "._a.png").write_bytes(b"resource fork")
    photo(tmp_path / "elsewhere" / "d.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    restore(used, folder, tmp_path / "out")
    assert written(tmp_path / "out") == ["a.png", "b.png", "grey.png", "linked/d.png", "shots.png", "shots.png/c.png"]


def test_a_target_inside_the_source_is_not_restored_again(used: Published, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    for _ in range(2):
        assert restore(used, tmp_path / "in", tmp_path / "in" / "out") == [tmp_path / "in" / "out" / "a.png"]


# ----------------------------------------------------------------------------------- stopped, and continued


@pytest.mark.error("restore: a 16-bit image that uses 12 bits")
def test_a_raw_image_is_answered_with_a_way_out_that_restore_has(used: Published, tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 4095, np.uint16)).save(tmp_path / "raw.png")
    with pytest.raises(UserError, match=r"raw\.png: a 16-bit image whose .*; convert it to 8 bits") as caught:
        restore(used, tmp_path / "raw.png", tmp_path / "out.png")
    assert "data.bits" not in str(caught.value)


@pytest.mark.error("restore: an image that cannot be read")
@pytest.mark.parametrize("bad", ["broken", "dangling link"])
def test_a_bad_image_stops_a_folder_and_the_same_command_continues(used: Published, tmp_path: Path, bad: str) -> None:
    for name in ("a.png", "c.png"):
        photo(tmp_path / "in" / name)
    file = tmp_path / "in" / "b.png"
    file.symlink_to(tmp_path / "nowhere.png") if bad == "dangling link" else file.write_bytes(b"\x89PNG but no more")
    with pytest.raises(UserError, match=r"in/b\.png: .*--on-error skip .*the same command continues") as caught:
        restore(used, tmp_path / "in", tmp_path / "out")
    assert "on_error:" not in str(caught.value) and written(tmp_path / "out") == ["a.png"]
    assert restored_now(used, tmp_path / "in", tmp_path / "out", on_error="skip") == ["b.png", "c.png"]
    file.unlink()
    photo(file)
    assert restored_now(used, tmp_path / "in", tmp_path / "out") == ["b.png"]
    assert restored_now(used, tmp_path / "in", tmp_path / "out") == []
    assert restored_now(used, tmp_path / "in", tmp_path / "out", overwrite=True) == ["a.png", "b.png", "c.png"]


@pytest.mark.error("restore: a 16-bit image of which 12 bits are used")
def test_the_way_out_for_a_dark_16_bit_image_is_one_that_restore_has(used: Published, tmp_path: Path) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10
    Image.fromarray(values).save(tmp_path / "raw.png")
    with pytest.raises(UserError, match=r"raw\.png: .*; convert it to 8 bits, or remove it$"):
        restore(used, tmp_path / "raw.png", tmp_path / "b.png")


def test_skipped_images_are_said_and_not_returned(
    used: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    said: list[str] = []
    files = restore(used, tmp_path / "in", tmp_path / "out", on_error="skip", say=said.append)
    assert [file.name for file in files] == ["a.png"] and said[
        -1
    ] == "1 of 2 images were skipped; the reasons are above"
    assert "b.png" in caplog.text


@pytest.mark.error("restore: no image of a folder can be read")
def test_a_folder_of_bad_images_alone_is_an_error(used: Published, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="in: none of its 1 images could be restored; the reasons are above"):
        restore(used, tmp_path / "in", tmp_path / "out", on_error="skip")


CHANGES = ["another network", "another source", "a damaged target", "a target of other origin", "another tile"]


@pytest.mark.error("restore: a target exists that was not restored in the same way")
@pytest.mark.parametrize("change", CHANGES)
def test_what_was_restored_otherwise_is_not_taken_for_the_same(used: Published, tmp_path: Path, change: str) -> None:
    source, target = photo(tmp_path / "in" / "a.png"), tmp_path / "out" / "a.png"
    tile = 1024
    if change == "a target of other origin":
        photo(target)
    else:
        restore(used, source.parent, target.parent)
    if change == "another network":
        used = checkpoint(tmp_path / "weights", seed=4)
    elif change == "another source":
        photo(source, left=9)
    elif change == "a damaged target":
        target.write_bytes(target.read_bytes()[:-9])
    elif change == "another tile":
        tile = 128
    before = target.read_bytes()
    with pytest.raises(UserError, match=r"out/a\.png exists, and was not restored from the same image.*--overwrite"):
        restore(used, source.parent, target.parent, tile=tile)
    assert target.read_bytes() == before
    restore(used, source.parent, target.parent, tile=tile, overwrite=True)
    assert restored_now(used, source.parent, target.parent, tile=tile) == []


def test_half_a_line_of_a_killed_process_is_no_obstacle(used: Published, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.png")
    restore(used, tmp_path / "in", tmp_path / "out")
    with (tmp_path / "out" / NAME).open("a") as file:
        file.write('{"target": "b.p')
    photo(tmp_path / "in" / "b.png")
    assert restored_now(used, tmp_path / "in", tmp_path / "out") == ["b.png"]
    assert restored_now(used, tmp_path / "in", tmp_path / "out") == []


# --------------------------------------------------------------------- refused before the network is loaded

REFUSED = {
    # cause: (source, target, what the message says)
    "a folder into an existing file": ("in", "file.txt", ["file.txt is a file", "name a folder"]),
    "a folder into one image": ("in", "new.png", ["new.png names one image", "name a folder"]),
    "a format that cannot be written": ("in/a.png", "x.xyz", ["x.xyz", "written as .xyz", ".png, .jpg", "folder"]),
    "below a file": ("in/a.png", "file.txt/b.png", ["file.txt is a file", "another place"]),
    "a folder below a file": ("in", "file.txt/out", ["file.txt is a file", "another place"]),
    "onto its own source": ("in/a.png", "in/a.png", ["in/a.png is the image", "another target"]),
    "a folder onto itself": ("in", "in", ["in/a.png is the image", "another target"]),
    "onto a folder": ("in", "out", ["out/a.png is a folder", "another target"]),
    "a name that is too long": ("in/a.png", "n" * 300 + ".png", ["no file can have this name", "another target"]),
    "a name with a null byte": ("in/a.png", "b\0.png", ["no file can have this name", "another target"]),
    "an existing target": ("in/a.png", "b.png", ["b.png exists", "--overwrite"]),
    "no such source": ("inn", "out2", ["inn: no such file or folder", "did you mean in"]),
    "no image in the source": ("empty", "out2", ["empty: holds no image"]),
    "images in the target alone": ("nested", "nested/out", ["nested: holds no image except in"]),
}


@pytest.mark.parametrize("cause", [pytest.param(one, marks=pytest.mark.error(f"restore: {one}")) for one in REFUSED])
def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "b.png", "nested/out/a.png"):
        photo(tmp_path / name)
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    (tmp_path / "w.pth").write_bytes(b"would be refused if it were read")
    before = written(tmp_path)
    source, target, words = REFUSED[cause]
    with pytest.raises(UserError) as caught:
        restore(published("w.pth", "nafnet", FIELDS), source, target)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert written(tmp_path) == before


@pytest.mark.error("restore: an unwritable target")
def test_an_unwritable_folder_is_refused_before_the_work(
    used: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    with pytest.raises(UserError, match=r"locked is not writable; make it writable, or name another place"):
        restore(used, photo(tmp_path / "a.png"), tmp_path / "locked" / "deep" / "b.png")


@pytest.mark.error("restore: a full disk")
def test_a_full_disk_names_the_file_and_what_is_written_stays_whole(
    used: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", left=5)
    before = target.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"b\.png could not be written: No space left on device; free some space"):
        restore(used, source, target, overwrite=True)
    assert target.read_bytes() == before and written(tmp_path) == ["a.png", "b.png", "weights/authors3.pth"]


# ---------------------------------------------------------------------------------------- formats and answers


@pytest.mark.parametrize(("suffix", "lossy"), [(".jpg", "JPEG"), (".webp", "WEBP"), (".png", ""), (".tif", "")])
def test_the_quality_of_a_lossy_target_is_said_and_can_be_chosen(
    used: Published, tmp_path: Path, suffix: str, lossy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, fields = photo(tmp_path / "a.png"), [part for one in FIELDS for part in ("--set", one)]
    given = ["restore", "--weights", used.file, "--backbone", "nafnet", *fields, source]
    assert command(*given, tmp_path / f"b{suffix}") == 0
    assert command(*given, tmp_path / f"c{suffix}", "--quality", 20) == 0
    said = capsys.readouterr().out
    assert ("of quality 95 loses detail" in said) == bool(lossy) and (f"{lossy} of quality 20" in said) == bool(lossy)
    sizes = [(tmp_path / f"{name}{suffix}").stat().st_size for name in "bc"]
    assert (sizes[0] > sizes[1]) == bool(lossy)


OWN = """
import torch
from torch import nn


class Nan(nn.Conv2d):
    def __init__(self, *, side: int = 1) -> None:
        super().__init__(3, 3, side)

    def forward(self, x, task=None):
        return x / 0 * 0


class Small(Nan):
    def forward(self, x, task=None):
        return nn.functional.pad(x, (80, 0, 0, 0), mode="reflect")


class Large(Nan):
    def forward(self, x, task=None):
        raise RuntimeError("could not create a primitive")
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("Nan", r"NaN in 100% of the image; check its weights", marks=pytest.mark.error("restore: NaN")),
        pytest.param(
            "Small", r"fails on its 70x45 pixels: .*; enlarge it", marks=pytest.mark.error("restore: a failing network")
        ),
        pytest.param(
            "Large", r"could not create a primitive; give a smaller --tile", marks=pytest.mark.error("restore: memory")
        ),
    ],
)
def test_a_network_that_fails_on_an_image_is_a_sentence(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    torch.save(torch.nn.Conv2d(3, 3, 1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"a\.png: .*" + words):
        restore(
            published(tmp_path / "w.pth", f"{tmp_path / 'own.py'}:{name}"),
            photo(tmp_path / "a.png"),
            tmp_path / "b.png",
        )
    assert not (tmp_path / "b.png").exists()
