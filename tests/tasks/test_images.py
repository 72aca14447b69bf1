"""Claims about decoding: what every kind of file becomes, and what a bad one says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmtl_ir.base.errors import UserError
from cmtl_ir.tasks.embedded import PHOTOGRAPHS, embedded_files
from cmtl_ir.tasks.images.decode import SUBFILE, DataError, ImageError, decode, image_files
from tests.tasks.files import folder_of, pattern, png16, truncate, write


def test_colour_is_kept(tmp_path: Path) -> None:
    assert np.array_equal(decode(write(tmp_path / "a.png")), pattern())


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path, extension: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a{extension}")
    assert np.array_equal(decode(tmp_path / f"a{extension}"), np.repeat((values >> 8)[..., None], 3, axis=2))


def test_sixteen_bit_colour_keeps_its_high_byte(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    png16(tmp_path / "a.png", values)
    assert np.array_equal(decode(tmp_path / "a.png"), values >> 8)


def test_eight_bit_values_survive_sixteen_bits(tmp_path: Path) -> None:
    grey = pattern()[..., 0]
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png")[..., 0], grey)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = pattern()[..., 0]
    assert np.array_equal(decode(write(tmp_path / "a.png", grey)), np.repeat(grey[..., None], 3, axis=2))


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    paletted = Image.fromarray(pattern()).quantize(16)
    paletted.save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), np.asarray(paletted.convert("RGB")))


def test_opaque_alpha_is_dropped(tmp_path: Path) -> None:
    opaque = np.concatenate([pattern(), np.full((40, 56, 1), 255, np.uint8)], axis=2)
    assert np.array_equal(decode(write(tmp_path / "a.png", opaque)), pattern())


@pytest.mark.error("images: transparent pixels")
def test_transparent_pixels_are_refused(tmp_path: Path) -> None:
    alpha = np.full((40, 56, 1), 255, np.uint8)
    alpha[3, 4] = 254
    with pytest.raises(ImageError, match=r"glass\.png: has transparent pixels.*repair or remove the file"):
        decode(write(tmp_path / "glass.png", np.concatenate([pattern(), alpha], axis=2)))


@pytest.mark.error("images: a TIFF of several frames")
def test_a_tiff_of_several_frames_is_refused(tmp_path: Path) -> None:
    """A reduced version of the first frame, which some cameras and scanners add, is no frame of its own."""
    first = Image.fromarray(pattern())
    first.save(tmp_path / "stack.tif", save_all=True, append_images=[first, first])
    with pytest.raises(
        ImageError, match=r"stack\.tif: a TIFF of 3 frames, of which only one can be read; save each as"
    ):
        decode(tmp_path / "stack.tif")
    preview = first.resize((14, 10))
    preview.encoderinfo = {"tiffinfo": {SUBFILE: 1}}
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[preview])
    assert (decode(tmp_path / "scan.tif") == pattern()).all()


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    photograph = Image.open(embedded_files("test")["coffee.png"]).convert("CMYK")
    photograph.save(tmp_path / "a.jpg", quality=95)
    difference = decode(tmp_path / "a.jpg").astype(int) - decode(embedded_files("test")["coffee.png"])
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = pattern()
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    upright = [image, image[:, ::-1], image[::-1, ::-1], image[::-1]]
    upright += [one.transpose(1, 0, 2) for one in (image, image[::-1], image[::-1, ::-1], image[:, ::-1])]
    assert np.array_equal(decode(tmp_path / "a.png"), upright[orientation - 1])


@pytest.mark.error("images: a truncated file")
@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm"])
def test_a_truncated_image_is_named(tmp_path: Path, extension: str) -> None:
    file = write(tmp_path / f"half a file{extension}")
    truncate(file)
    with pytest.raises(ImageError, match=r"half a file.*repair or remove the file"):
        decode(file)


@pytest.mark.error("images: a file that is not an image")
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"notes\.png"):
        decode(tmp_path / "notes.png")


@pytest.mark.error("images: a missing file")
def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        decode(tmp_path / "gone.png")


def test_errors_are_answers() -> None:
    assert issubclass(ImageError, UserError) and issubclass(ImageError, ValueError)


# --------------------------------------------------------------------------------------------------- folders


def test_names_are_paths_below_the_folder_and_sorted(tmp_path: Path) -> None:
    folder_of(tmp_path, ["b.png", "a b.PNG", "B.png", "deep/er/c.png"])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._b.png").write_bytes(b"x")
    assert list(image_files(tmp_path)) == ["B.png", "a b.PNG", "b.png", "deep/er/c.png"]


def test_a_list_takes_folders_and_files(tmp_path: Path) -> None:
    folder_of(tmp_path / "one", ["a.png"]), folder_of(tmp_path / "two", ["a.png", "b.png"])
    assert list(image_files([tmp_path / "one", tmp_path / "two" / "b.png"])) == ["b.png", "one/a.png"]
    assert list(image_files([tmp_path / "one", tmp_path / "two"])) == ["one/a.png", "two/a.png", "two/b.png"]


@pytest.mark.error("data: two images of one name")
def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "x" / "same", ["a.png"]), folder_of(tmp_path / "y" / "same", ["a.png"])
    with pytest.raises(DataError, match=r"x/same/a\.png and .*y/same/a\.png"):
        image_files([tmp_path / "x" / "same", tmp_path / "y" / "same"])


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    folder_of(tmp_path / "real", ["a.png"])
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "round").symlink_to(tmp_path / "set")
    assert list(image_files(tmp_path / "set")) == ["linked/a.png"]


@pytest.mark.error("data: a folder without images")
def test_an_empty_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no image .*\.png"):
        image_files(tmp_path)


@pytest.mark.error("data: a misspelt folder")
def test_a_misspelt_folder_gets_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    with pytest.raises(DataError, match=r"no such file or folder.*did you mean photographs"):
        image_files(tmp_path / "photografs")


# -------------------------------------------------------------------------------------------------- embedded


def test_the_embedded_photographs_are_there() -> None:
    sizes = {name: decode(path).shape[:2] for name, path in embedded_files("train", "test").items()}
    assert sizes.keys() == embedded_files("train").keys() | embedded_files("test").keys()
    assert sizes == {
        "astronaut.png": (512, 512),
        "chelsea.png": (300, 451),
        "flower.jpg": (427, 640),
        "grace_hopper.jpg": (600, 512),
        "rocket.jpg": (427, 640),
        "china.jpg": (427, 640),
        "coffee.png": (400, 600),
    }


def test_textures_are_no_photographs_for_test() -> None:
    assert [decode(path).shape for path in embedded_files("texture").values()] == [(512, 512, 3)] * 4 + [(872, 1000, 3)]
    assert not embedded_files("texture").keys() & embedded_files("train", "test").keys()


def test_every_embedded_photograph_is_credited() -> None:
    assert all(photo.credit for photo in PHOTOGRAPHS)
    assert all("CC0" in one.credit or "public domain" in one.credit for one in PHOTOGRAPHS if one.split == "texture")
    assert all("CC BY 2.0" in photo.credit for photo in PHOTOGRAPHS if photo.project == "scikit-learn")
