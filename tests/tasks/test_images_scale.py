"""Scale of values: a file that leaves most of its range unused is reported with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.images.decode import DataError, ImageError, decode
from cmtl_ir.tasks.images.store import ImageStore
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.verification import verify
from tests.tasks.files import png16, tiff16
from tests.tasks.tasks import CPU


def values(bits: int, channels: tuple[int, ...] = (3,)) -> np.ndarray:
    """[20, 24, 3] or [20, 24] uint16 values that use all of so many bits."""
    drawn = np.random.default_rng(bits).integers(0, 1 << bits, (20, 24, *channels), dtype=np.uint16)
    drawn[0, 0] = (1 << bits) - 1
    return drawn


def grey_file(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image[..., 0]).save(path)
    return path


def png_file(path: Path, image: np.ndarray) -> Path:
    png16(path, image)
    return path


KINDS: dict[str, tuple[str, Callable[[Path, np.ndarray], Path]]] = {
    "grey PNG": (".png", grey_file),
    "grey TIFF": (".tif", grey_file),
    "colour PNG": (".png", png_file),
    "colour TIFF": (".tif", tiff16),
}


@pytest.mark.error("images: 16-bit files that use only some of their bits")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("used", "named"), [(8, 8), (9, 10), (10, 10), (12, 12), (14, 14)])
def test_a_file_that_leaves_its_range_unused_is_refused(tmp_path: Path, kind: str, used: int, named: int) -> None:
    suffix, write = KINDS[kind]
    file = write(tmp_path / f"raw image{suffix}", values(used))
    with pytest.raises(ImageError) as caught:
        decode(file)
    said = str(caught.value)
    assert f"raw image{suffix}: a 16-bit image whose largest value is {(1 << used) - 1}" in said
    assert f"set `data.bits: {named}` if white is {(1 << named) - 1}, `data.bits: 16` if it is dark" in said


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_bits_name_the_scale(tmp_path: Path, kind: str, bits: int) -> None:
    suffix, write = KINDS[kind]
    image = values(bits)
    expected = image if kind.startswith("colour") else image[..., :1].repeat(3, axis=2)
    file = write(tmp_path / f"a{suffix}", image)
    assert np.array_equal(decode(file, bits), expected >> bits - 8)
    assert np.array_equal(decode(file, 16), expected >> 8), "a dark image"


@pytest.mark.error("images: values above those of data.bits")
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_uses_its_range_needs_no_bits(tmp_path: Path, kind: str) -> None:
    suffix, write = KINDS[kind]
    image = values(16)
    expected = image if kind.startswith("colour") else image[..., :1].repeat(3, axis=2)
    file = write(tmp_path / f"a{suffix}", image)
    assert np.array_equal(decode(file), expected >> 8)
    with pytest.raises(ImageError, match=r"values up to 65535, above the 4095 of `data\.bits: 12`"):
        decode(file, 12)


def test_black_is_black_on_every_scale(tmp_path: Path) -> None:
    assert not decode(png_file(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint16))).any()


def test_files_of_eight_bits_are_read_as_they_are(tmp_path: Path) -> None:
    dark = np.full((8, 8, 3), 3, np.uint8)
    Image.fromarray(dark).save(tmp_path / "a.png")
    assert np.array_equal(decode(tmp_path / "a.png"), dark) and np.array_equal(decode(tmp_path / "a.png", 12), dark)


@pytest.mark.parametrize(("magic", "channels"), [(b"P5", 1), (b"P6", 3)])
def test_netpbm_says_its_white(tmp_path: Path, magic: bytes, channels: int) -> None:
    """PGM and PPM carry their largest value, so no scale is in doubt."""
    image = values(12, (channels,))
    file = tmp_path / ("a.pgm" if channels == 1 else "a.ppm")
    file.write_bytes(magic + b" 24 20 4095\n" + image.astype(">u2").tobytes())
    assert np.abs(decode(file) - image / 4095 * 255).max() <= 1


# ------------------------------------------------------------------------------------------------------ floats


def float_file(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image.astype(np.float32)).save(path)
    return path


def test_floats_in_0_to_1_are_images(tmp_path: Path) -> None:
    image = np.linspace(0, 1, 256).reshape(16, 16)
    assert np.array_equal(decode(float_file(tmp_path / "a.tif", image))[..., 0].ravel(), np.arange(256))


@pytest.mark.error("images: floating-point numbers outside 0 .. 1")
@pytest.mark.parametrize("factor", [255, 4095, -1, np.nan])
def test_other_floats_are_refused(tmp_path: Path, factor: float) -> None:
    file = float_file(tmp_path / "depth.tif", np.linspace(0, 1, 64).reshape(8, 8) * factor)
    with pytest.raises(ImageError, match=r"depth\.tif: has floating-point values .*black is 0 and white is 1"):
        decode(file)


@pytest.mark.error("images: a TIFF of floating-point colour")
def test_colour_of_floats_is_refused_as_what_it_is(tmp_path: Path) -> None:
    file = tiff16(tmp_path / "hdr.tif", values(16))
    content = bytearray(file.read_bytes())
    content[8:14] = (32).to_bytes(2, "little") * 3  # depths that Pillow does not know for colour
    file.write_bytes(content)
    with pytest.raises(ImageError, match=r"hdr\.tif: a TIFF of a kind that Pillow cannot read.*convert it"):
        decode(file)


# ------------------------------------------------------------------------------------------- through a data set


@pytest.fixture
def raw(tmp_path: Path) -> str:
    (tmp_path / "raw").mkdir()
    for number in range(3):
        tiff16(tmp_path / "raw" / f"{number}.tif", values(12))
    return str(tmp_path / "raw")


@pytest.mark.error("data: a folder of 16-bit files that use only some of their bits")
def test_a_folder_of_raw_files_is_refused_and_the_way_out_works(raw: str) -> None:
    tasks = {"one": TaskConfig.model_validate({"degradation": "haze"})}
    data = DataConfig(clean=raw, test=raw, patch=8)
    with pytest.raises(DataError, match=r"(?s)0\.tif.*2\.tif.*`data\.bits: 12`.*`data\.on_error: skip`"):
        build_tasks(tasks, data, 0, CPU)
    read = build_tasks(tasks, data.model_copy(update={"bits": 12}), 0, CPU)["one"].splits.test
    assert isinstance(read, ImageStore) and np.array_equal(read.image(0), values(12) >> 4)
    dark = build_tasks(tasks, data.model_copy(update={"bits": 16}), 0, CPU)["one"].splits.test
    assert isinstance(dark, ImageStore) and np.array_equal(dark.image(0), values(12) >> 8)


def test_pairs_are_read_on_the_same_scale(raw: str) -> None:
    pairs = {"one": TaskConfig.model_validate({"input": raw, "target": raw, "test": {"input": raw, "target": raw}})}
    with pytest.raises(DataError, match=r"`data\.bits: 12`"):
        build_tasks(pairs, DataConfig(patch=8), 0, CPU)
    sample = next(build_tasks(pairs, DataConfig(patch=8, bits=12), 0, CPU)["one"].test_samples())
    assert sample.clean.max() == 1 and sample.degraded.max() == 1


def test_verify_says_so(raw: str) -> None:
    tasks = {"one": TaskConfig.model_validate({"degradation": "haze"})}
    data = DataConfig(clean=raw, test=raw, patch=8)
    for finding in verify(tasks, data):
        assert finding.found == 0 and len(finding.problems) == 3
        assert re.search(r"unreadable: .*0\.tif: a 16-bit image .*; set `data\.bits: 12`", finding.problems[0])
    assert all(one.found == 3 and not one.problems for one in verify(tasks, data.model_copy(update={"bits": 12})))
