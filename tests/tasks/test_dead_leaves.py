"""Claims about the synthetic images: pure functions of (seed, n), radii by a power law, natural statistics."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from cmtl_ir.tasks.images import dead_leaves
from cmtl_ir.tasks.images.decode import decode


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [dead_leaves.dead_leaves(0, number) for number in range(2)]


def test_an_image_depends_on_seed_and_number_alone(images: list[np.ndarray]) -> None:
    again = [dead_leaves.dead_leaves(seed, number, 64) for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2]) and not np.array_equal(again[0], again[3])
    assert images[0].shape == (256, 256, 3) and images[0].dtype == np.uint8


def test_pixels_are_those_of_the_version(images: list[np.ndarray]) -> None:
    """Stored images are found by the version alone: other pixels need another one."""
    digest = hashlib.blake2b(images[0].tobytes(), digest_size=8).hexdigest()
    assert (dead_leaves.VERSION, digest) == (1, "43947b1fefb748a2")


def test_radii_follow_the_power_law() -> None:
    """P(R > r) = (r^-2 - b^-2) / (a^-2 - b^-2) for a density proportional to r^-3 on [a, b]."""
    drawn = dead_leaves.radii(np.linspace(0, 1, 100_001))
    least, most = dead_leaves.SMALLEST, dead_leaves.LARGEST
    assert drawn.min() == pytest.approx(least) and drawn.max() == pytest.approx(most)
    for radius in (4.0, 10.0, 60.0):
        expected = (radius**-2 - most**-2) / (least**-2 - most**-2)
        assert (drawn > radius).mean() == pytest.approx(expected, abs=2e-5)


def test_images_use_the_range_of_values(images: list[np.ndarray]) -> None:
    for image in images:
        assert image.min() < 26 and image.max() > 229 and (np.isin(image, (0, 255))).mean() < 0.05
        assert 0.12 < image.std() / 255 < 0.35


def test_the_spectrum_falls_as_that_of_photographs_does(images: list[np.ndarray]) -> None:
    """Amplitude over frequency falls with a slope near -1 (Field, JOSA A 1987: -0.8 to -1.5 for photographs)."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256)))
    band = (frequency > 0.02) & (frequency < 0.2)
    power = np.mean([abs(np.fft.fft2(image.mean(axis=2))) ** 2 for image in images], axis=0)
    slope = np.polyfit(np.log(frequency[band]), np.log(power[band]) / 2, 1)[0]
    assert -1.5 < slope < -0.8


def test_stored_images_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    small = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(dead_leaves, "dead_leaves", lambda seed, number: (drawn.append(number), small + number)[1])
    first, more = (dead_leaves.rendered_files(count, tmp_path) for count in (2, 3))
    assert drawn == [0, 1, 2] and list(more)[:2] == list(first)
    assert [int(decode(file).max()) for file in more.values()] == [0, 1, 2]
