"""Claims about the image store: decoded once, rebuilt when files change, the same content is the same store."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cmtl_ir.tasks.images import mapping, pack
from cmtl_ir.tasks.images.decode import DataError, decode, read
from cmtl_ir.tasks.images.store import ImageStore
from tests.tasks.files import folder_of, pattern, truncate, write

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


def test_images_are_those_of_the_files(folder: Path, cache: Path) -> None:
    store = ImageStore.open(folder, cache)
    assert store.names == tuple(NAMES)
    assert all(np.array_equal(store.image(i), decode(folder / name)) for i, name in enumerate(NAMES))


def test_images_of_different_sizes_stand_side_by_side(tmp_path: Path, cache: Path) -> None:
    shapes = [(9, 31), (64, 8), (17, 17)]
    for seed, (height, width) in enumerate(shapes):
        write(tmp_path / "photos" / f"{seed}.png", pattern(height, width, seed))
    store = ImageStore.open(tmp_path / "photos", cache)
    assert store.sizes.tolist() == [list(shape) for shape in shapes]
    assert all(np.array_equal(store.image(seed), pattern(*shape, seed)) for seed, shape in enumerate(shapes))


def test_the_second_opening_decodes_nothing(folder: Path, cache: Path, decoded: list[str]) -> None:
    ImageStore.open(folder, cache)
    assert len(decoded) == 3
    ImageStore.open(folder, cache)
    assert len(decoded) == 3


def test_images_cannot_be_written_to(folder: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        ImageStore.open(folder, cache).image(0)[0, 0, 0] = 1


# ---------------------------------------------------------------------------------------------------- changes


def test_a_touched_file_is_decoded_again(folder: Path, cache: Path) -> None:
    before = ImageStore.open(folder, cache)
    write(folder / "a.png", pattern(seed=9))
    after = ImageStore.open(folder, cache)
    assert np.array_equal(after.image(0), pattern(seed=9)) and after.digest != before.digest
    assert np.array_equal(before.image(0), pattern(seed=0)), "an open store keeps its pixels"


def test_added_and_removed_files_are_noticed(folder: Path, cache: Path) -> None:
    ImageStore.open(folder, cache)
    write(folder / "d.png")
    assert len(ImageStore.open(folder, cache)) == 4
    (folder / "a.png").unlink()
    assert ImageStore.open(folder, cache).names == ("b with spaces.png", "d.png", "deep/c.png")


def test_a_change_leaves_no_old_pixels_behind(folder: Path, cache: Path) -> None:
    for seed in range(3):
        write(folder / "a.png", pattern(seed=10 + seed))
        ImageStore.open(folder, cache)
    assert len(list(cache.rglob("pixels-*.u8"))) == 1


@pytest.mark.parametrize("damage", ["", "{", '{"format": 99}', "[]"])
def test_a_damaged_index_is_rebuilt(folder: Path, cache: Path, damage: str) -> None:
    digest = ImageStore.open(folder, cache).digest
    next(cache.rglob("index.json")).write_text(damage)
    assert ImageStore.open(folder, cache).digest == digest


def test_shortened_pixels_are_rebuilt(folder: Path, cache: Path) -> None:
    digest = ImageStore.open(folder, cache).digest
    truncate(next(cache.rglob("pixels-*.u8")))
    assert ImageStore.open(folder, cache).digest == digest


def test_an_interrupted_build_leaves_the_old_pack(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ImageStore.open(folder, cache)
    index = next(cache.rglob("index.json")).read_text()
    write(folder / "d.png")

    def interrupt(path: Path, bits: int | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ImageStore.open(folder, cache)
    assert next(cache.rglob("index.json")).read_text() == index
    assert len(list(cache.rglob("pixels-*.u8"))) == 1


# --------------------------------------------------------------------------------------------------- identity


def test_the_same_content_elsewhere_is_the_same_digest(folder: Path, cache: Path, tmp_path: Path) -> None:
    elsewhere = folder_of(tmp_path / "moved" / "renamed", NAMES)
    assert ImageStore.open(folder, cache).digest == ImageStore.open(elsewhere, tmp_path / "other").digest


def test_one_pixel_or_one_name_changes_the_digest(folder: Path, cache: Path) -> None:
    digests = {ImageStore.open(folder, cache).digest}
    image = pattern(seed=0)
    image[0, 0, 0] ^= 1
    write(folder / "a.png", image)
    digests.add(ImageStore.open(folder, cache).digest)
    (folder / "a.png").rename(folder / "A.png")
    digests.add(ImageStore.open(folder, cache).digest)
    assert len(digests) == 3


def test_a_chosen_store_is_the_store_of_those_files(folder: Path, cache: Path, tmp_path: Path) -> None:
    chosen = ImageStore.open(folder, cache).choose([2, 0])
    assert chosen.names == ("deep/c.png", "a.png") and np.array_equal(chosen.image(1), pattern(seed=0))
    alone = ImageStore.open(folder_of(tmp_path / "alone", ["a.png"]), cache)
    assert chosen.choose([1]).digest == alone.digest


# ------------------------------------------------------------------------------------------------- bad images


@pytest.mark.error("data: several broken images")
def test_every_broken_image_is_named_at_once(folder: Path, cache: Path) -> None:
    truncate(folder / "a.png"), truncate(folder / "deep/c.png")
    with pytest.raises(DataError, match=r"(?s)a\.png.*c\.png"):
        ImageStore.open(folder, cache)
    assert not list(cache.rglob("pixels-*.u8"))


def test_skip_leaves_broken_images_out_and_says_so(folder: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    truncate(folder / "a.png")
    for _ in range(2):
        caplog.clear()
        assert ImageStore.open(folder, cache, "skip").names == ("b with spaces.png", "deep/c.png")
        assert "a.png" in caplog.text
    with pytest.raises(DataError, match=r"a\.png"):
        ImageStore.open(folder, cache, "stop")


@pytest.mark.error("data: only broken images")
def test_nothing_left_after_skipping_is_an_error(tmp_path: Path, cache: Path) -> None:
    truncate(write(tmp_path / "photos" / "a.png"))
    with pytest.raises(DataError, match=r"a\.png"):
        ImageStore.open(tmp_path / "photos", cache, "skip")


# ------------------------------------------------------------------------------------------------------- crops


@pytest.mark.parametrize("flip", range(8))
def test_crops_are_cut_then_transposed_then_turned_then_mirrored(folder: Path, cache: Path, flip: int) -> None:
    store = ImageStore.open(folder, cache)
    out = torch.empty(1, 3, 16, 16, dtype=torch.uint8)
    store.crops(torch.tensor([1]), torch.tensor([[24, 40]]), torch.tensor([flip]), out)
    expected = pattern(seed=1)[24:40, 40:56].transpose(2, 0, 1)
    expected = expected.transpose(0, 2, 1) if flip & 4 else expected
    expected = expected[:, ::-1] if flip & 2 else expected
    expected = expected[:, :, ::-1] if flip & 1 else expected
    assert np.array_equal(out[0].numpy(), expected)


def resident(folder: Path) -> int:
    """Return the bytes of mapped files below a folder that are resident in this process."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    ours = [block for block in blocks if str(folder) in block.partition("\n")[0]]
    return sum(int(size) * 1024 for block in ours for size in re.findall(r"^Rss: +(\d+) kB", block, re.MULTILINE))


@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="needs the memory map of the process")
def test_a_store_of_any_size_keeps_little_resident(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        write(tmp_path / "photos" / f"{seed:02d}.bmp", pattern(256, 512, seed))
    store = ImageStore.open(tmp_path / "photos", cache)
    images = [store.image(number).copy() for number in range(12)]
    assert resident(cache) >= store.pack.pixels.nbytes == 12 * images[0].nbytes
    monkeypatch.setattr(mapping, "RESIDENT", 2 * images[0].nbytes)
    again = [store.image(number).copy() for number in range(12)]
    assert resident(cache) <= 4 * images[0].nbytes
    assert all(np.array_equal(one, other) for one, other in zip(images, again, strict=True))
    out, ids = torch.empty(12, 3, 128, 128, dtype=torch.uint8), torch.arange(12)
    for _ in range(2):
        store.crops(ids, torch.zeros(12, 2, dtype=torch.int64), torch.zeros(12, dtype=torch.int64), out)
    assert resident(cache) <= 4 * images[0].nbytes
    assert np.array_equal(out[5].permute(1, 2, 0).numpy(), images[5][:128, :128])
