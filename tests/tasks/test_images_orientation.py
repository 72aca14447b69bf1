"""EXIF orientation in pairs: a tag that turns only one image is reported, and a correct one is applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.images.decode import DataError, decode
from cmtl_ir.tasks.images.likeness import TURNS, stored, thumbnail, turned
from cmtl_ir.tasks.images.pairs import open_pairs
from cmtl_ir.tasks.images.store import PairStore
from cmtl_ir.tasks.sources import PairsConfig
from cmtl_ir.tasks.verification import Finding, verify
from tests.tasks.files import tagged, write

TURNED = range(2, 9)


def photograph(square: bool = True) -> np.ndarray:
    """[96, 96, 3] or [96, 144, 3] of a photograph."""
    whole = decode(embedded_files("test")["coffee.png"])
    return np.ascontiguousarray(whole[100:388, 150 : 438 if square else 582][::3, ::3])


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels of an image as their tag says they are meant."""
    transpose, axes = TURNS[orientation]
    return np.flip(image.transpose(1, 0, 2) if transpose else image, axes)


def pairs_in(root: Path) -> PairsConfig:
    return PairsConfig(input=str(root / "input"), target=str(root / "target"))


def opened(root: Path, on_error: str = "stop") -> PairStore:
    return open_pairs(pairs_in(root), root / "cache", on_error)  # type: ignore[arg-type]


def finding_of(root: Path) -> Finding:
    config = TaskConfig.model_validate(pairs_in(root).model_dump(include={"input", "target"}))
    (finding,) = verify({"one": config}, DataConfig(patch=8))
    return finding


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A pair that is well."""
    write(tmp_path / "input" / "well.png", photograph() // 2), write(tmp_path / "target" / "well.png", photograph())
    return tmp_path


@pytest.mark.error("pairs: EXIF orientation on one side")
@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("square", [True, False])
def test_a_tag_on_one_side_is_named(root: Path, orientation: int, square: bool) -> None:
    write(root / "input" / "b.png", photograph(square) // 2)
    tagged(root / "target" / "b.png", photograph(square), orientation)
    named = rf"b\.png \(orientation 1\) and b\.png \(orientation {orientation}\)"
    way_out = r"delete the tag \(`exiftool -Orientation= FILE`\).*on_error: skip"
    with pytest.raises(DataError, match=rf"EXIF turns one image.*{named}; {way_out}"):
        opened(root)
    assert opened(root, "skip").names == ("well.png",)
    (problem,) = finding_of(root).problems
    assert "EXIF turns one image" in problem and "input/b.png" in problem and "exiftool" in problem


@pytest.mark.parametrize("orientation", TURNED)
def test_a_tag_whose_partner_was_turned_is_followed(root: Path, orientation: int) -> None:
    """A photograph from a camera beside its degraded copy, which an editor wrote upright and without a tag."""
    write(root / "input" / "b.png", np.ascontiguousarray(upright(photograph(), orientation)) // 2)
    tagged(root / "target" / "b.png", photograph(), orientation)
    degraded, clean = opened(root).pair(0)
    assert np.array_equal(degraded, clean // 2) and finding_of(root).problems == []


def test_the_same_tag_on_both_sides_is_followed(root: Path) -> None:
    tagged(root / "input" / "b.png", photograph() // 2, 6), tagged(root / "target" / "b.png", photograph(), 6)
    assert len(opened(root)) == 2 and finding_of(root).problems == []


def test_images_without_any_direction_are_left_alone(root: Path) -> None:
    flat = np.full((40, 40, 3), 100, np.uint8)
    write(root / "input" / "b.png", flat), tagged(root / "target" / "b.png", flat, 3)
    assert len(opened(root)) == 2 and finding_of(root).problems == []


@pytest.mark.error(
    "pairs: one image turned or mirrored, without a tag",
    says="turned or mirrored against its clean partner: input/b.png; it fits when turned as by EXIF orientation 3",
)
@pytest.mark.parametrize("orientation", TURNED)
def test_verify_finds_a_turned_image_without_a_tag(root: Path, orientation: int) -> None:
    write(root / "input" / "b.png", photograph() // 2)
    write(root / "target" / "b.png", np.ascontiguousarray(upright(photograph(), orientation)))
    (problem,) = finding_of(root).problems
    assert "turned or mirrored against its clean partner" in problem and "input/b.png" in problem
    assert problem.endswith(f"by EXIF orientation {orientation}")


@pytest.mark.parametrize("name", ["gaussian_noise", "haze", "low_light", "inpainting_mask", "rain_veil", "raindrop"])
def test_no_degradation_is_taken_for_a_turn(root: Path, name: str) -> None:
    from cmtl_ir.strategy import registry
    from tests.tasks.degradation_inputs import photo

    cls = registry.load("degradation", name)
    clean, *rest = photo()
    degraded = cls.at_severity(5)(clean, *rest)  # type: ignore[attr-defined]
    for side, image in (("input", degraded), ("target", clean)):
        write(root / side / "b.png", (image[0].permute(1, 2, 0) * 255).byte().numpy())
    assert finding_of(root).problems == []


@pytest.mark.parametrize("orientation", TURNS)
def test_thumbnails_turn_as_images_do(orientation: int) -> None:
    image = photograph()
    small = thumbnail(np.ascontiguousarray(upright(image, orientation)))
    assert (turned(thumbnail(image), orientation) - small).abs().max() < 1e-5
    assert (stored(small, orientation) - thumbnail(image)).abs().max() < 1e-5


def test_turns_are_those_of_pillow(tmp_path: Path) -> None:
    for orientation in TURNED:
        file = tagged(tmp_path / "a.png", photograph(square=False), orientation)
        assert np.array_equal(decode(file), upright(photograph(square=False), orientation))
