"""Claims about pairs: who belongs to whom, and what is said of those without a partner."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmtl_ir.tasks.images.decode import DataError
from cmtl_ir.tasks.images.pairs import open_pairs
from cmtl_ir.tasks.images.store import PairStore
from cmtl_ir.tasks.sources import PairsConfig
from tests.tasks.files import folder_of, pattern, truncate, write


def opened(root: Path, on_error: Any = "stop", **fields: Any) -> PairStore:
    given = {"input": str(root / "input"), "target": str(root / "target"), **fields}
    return open_pairs(PairsConfig(**given), root / "cache", on_error)


def pairs_of(store: PairStore) -> list[tuple[str, str]]:
    return list(zip(store.degraded.names, store.clean.names, strict=True))


def test_equal_names_are_pairs(tmp_path: Path) -> None:
    (
        folder_of(tmp_path / "input", ["1.png", "10.png", "2.png"]),
        folder_of(tmp_path / "target", ["1.bmp", "10.bmp", "2.bmp"]),
    )
    assert pairs_of(opened(tmp_path)) == [("1.png", "1.bmp"), ("10.png", "10.bmp"), ("2.png", "2.bmp")]


def test_letter_case_and_spaces_do_not_matter(tmp_path: Path) -> None:
    folder_of(tmp_path / "input", ["IMG 1.PNG", "b.png"]), folder_of(tmp_path / "target", ["img 1.png", "B.png"])
    assert pairs_of(opened(tmp_path)) == [("IMG 1.PNG", "img 1.png"), ("b.png", "B.png")]


def test_letter_case_decides_where_it_must(tmp_path: Path) -> None:
    folder_of(tmp_path / "input", ["A.png", "a.png"]), folder_of(tmp_path / "target", ["A.png", "a.png"])
    assert pairs_of(opened(tmp_path)) == [("A.png", "A.png"), ("a.png", "a.png")]


def test_several_inputs_share_a_target_as_in_sots(tmp_path: Path) -> None:
    folder_of(tmp_path / "input", ["0001_0.8_0.2.png", "0001_1_0.1.png", "0002_1_0.2.png"])
    folder_of(tmp_path / "target", ["0001.png", "0002.png"])
    store = opened(tmp_path, input_name="{name}_*")
    assert store.clean.names == ("0001.png", "0001.png", "0002.png")
    assert store.groups == store.clean.names


def test_one_folder_may_hold_both_as_in_polyu(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path / "all", ["x_real.png", "x_mean.png", "y_real.png", "y_mean.png", "notes.png"]))
    store = opened(tmp_path, input=folder, target=folder, input_name="{name}_real", target_name="{name}_mean")
    assert pairs_of(store) == [("x_real.png", "x_mean.png"), ("y_real.png", "y_mean.png")]


def test_scenes_and_frames_must_both_agree_as_in_gopro(tmp_path: Path) -> None:
    names = [f"{scene}/{kind}/{frame}.png" for scene in "AB" for kind in ("blur", "sharp") for frame in "12"]
    folder = str(folder_of(tmp_path / "all", names))
    patterns = {"input_name": "{scene}/blur/{frame}", "target_name": "{scene}/sharp/{frame}"}
    store = opened(tmp_path, input=folder, target=folder, **patterns)
    assert pairs_of(store)[1] == ("A/blur/2.png", "A/sharp/2.png") and len(store) == 4


# ----------------------------------------------------------------------------------------------- planted faults


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for side in ("input", "target"):
        folder_of(tmp_path / side, [f"{number}.png" for number in range(4)])
    return tmp_path


@pytest.mark.error("pairs: an image without a partner")
@pytest.mark.parametrize(("side", "words"), [("target", "no clean partner"), ("input", "no degraded partner")])
def test_an_image_without_a_partner_is_named(root: Path, side: str, words: str) -> None:
    (root / side / "2.png").unlink()
    with pytest.raises(DataError, match=rf"{words}.*2\.png.*input_name"):
        opened(root)
    assert opened(root, "skip").degraded.names == ("0.png", "1.png", "3.png")


@pytest.mark.error("pairs: unequal sizes")
def test_unequal_sizes_are_named_with_both_sizes(root: Path) -> None:
    write(root / "target" / "1.png", pattern(44, 58))
    with pytest.raises(DataError, match=r"1\.png 56x40 and 1\.png 58x44.*sizes: centre"):
        opened(root)
    assert opened(root, "skip").names == ("0.png", "2.png", "3.png")


def test_unequal_sizes_can_be_cut_about_the_centre(root: Path) -> None:
    large = pattern(60, 76, 9)
    write(root / "target" / "1.png", large)
    write(root / "input" / "1.png", large[10:50, 10:66])
    store = opened(root, sizes="centre")
    degraded, clean = store.pair(1)
    assert np.array_equal(degraded, clean)
    crops = [torch.empty(2, 3, 8, 8, dtype=torch.uint8) for _ in range(2)]
    store.crops(torch.tensor([1, 1]), torch.tensor([[0, 0], [30, 40]]), torch.tensor([0, 5]), *crops)
    assert torch.equal(*crops)


@pytest.mark.error("pairs: several clean images for one degraded image")
def test_two_targets_for_one_input_are_named(root: Path) -> None:
    write(root / "target" / "1.bmp")
    with pytest.raises(DataError, match=r"1\.png -> 1\.bmp and 1\.png; see input_name"):
        opened(root)


@pytest.mark.error("pairs: a pattern that matches nothing")
def test_a_pattern_that_fits_nothing_is_quoted(root: Path) -> None:
    with pytest.raises(DataError, match=r"0\.png, matches '\{name\}_real'; correct input_name"):
        opened(root, input_name="{name}_real")


@pytest.mark.error("pairs: no pair at all")
def test_no_pair_at_all_is_an_error_even_when_skipping(root: Path) -> None:
    shutil.rmtree(root / "target")
    folder_of(root / "target", ["else.png"])
    with pytest.raises(DataError, match=r"no image has a partner.*see input_name"):
        opened(root, "skip")


@pytest.mark.error("pairs: a broken image")
def test_a_broken_side_takes_its_pair_along(root: Path) -> None:
    truncate(root / "target" / "1.png"), truncate(root / "input" / "3.png")
    with pytest.raises(DataError, match=r"3\.png"):
        opened(root)
    assert opened(root, "skip").names == ("0.png", "2.png")


def test_digest_knows_who_belongs_to_whom(root: Path) -> None:
    store = opened(root)
    swapped = PairStore(store.degraded, store.clean.choose([1, 0, 2, 3]), store.sizes)
    assert swapped.digest != store.digest == opened(root).digest


DATA = Path(os.environ.get("CMTL_IR_TEST_DATA", "no such folder"))


@pytest.mark.skipif(not DATA.is_dir(), reason="CMTL_IR_TEST_DATA names no folder with the sets of the field")
@pytest.mark.parametrize(
    ("degraded", "clean", "fields", "count"),
    [
        ("Rain100L/input", "Rain100L/target", {}, 10),
        ("Rain13K_sample/train/input", "Rain13K_sample/train/target", {}, 38),
        ("SOTS_sample/outdoor/hazy", "SOTS_sample/outdoor/gt", {"input_name": "{name}_*"}, 2),
        ("SOTS_sample/indoor/hazy", "SOTS_sample/indoor/gt", {"input_name": "{name}_*", "sizes": "centre"}, 4),
        ("PolyU/CroppedImages",) * 2 + ({"input_name": "{name}_real", "target_name": "{name}_mean"}, 30),
        ("Set5/image_SRF_2",) * 2 + ({"input_name": "{name}_LR", "target_name": "{name}_HR", "sizes": "centre"}, 5),
    ],
)
def test_the_layouts_of_real_sets(
    tmp_path: Path, degraded: str, clean: str, fields: dict[str, str], count: int
) -> None:
    store = opened(tmp_path, input=str(DATA / degraded), target=str(DATA / clean), **fields)
    assert len(store) == count
    if fields.get("target_name") != "{name}_HR":  # the low-resolution images of Set5 are no aligned pairs
        images = [store.pair(number) for number in range(count)]
        assert all(np.abs(one.astype(int) - other).mean() < 100 for one, other in images)
