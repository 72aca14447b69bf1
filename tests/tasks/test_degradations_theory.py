"""Each degradation against its formula, or against a library that everyone knows."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import convolve as scipy_convolve
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from cmtl_ir.keyed import keys_of, substream
from cmtl_ir.tasks.degradations._filters import convolve
from cmtl_ir.tasks.degradations._photons import poisson
from cmtl_ir.tasks.degradations.composition import Composition
from cmtl_ir.tasks.degradations.defocus_blur import DefocusBlur
from cmtl_ir.tasks.degradations.downsampling import Downsampling
from cmtl_ir.tasks.degradations.gaussian_blur import GaussianBlur
from cmtl_ir.tasks.degradations.gaussian_noise import GaussianNoise
from cmtl_ir.tasks.degradations.haze import Haze
from cmtl_ir.tasks.degradations.impulse_noise import ImpulseNoise
from cmtl_ir.tasks.degradations.inpainting_mask import InpaintingMask
from cmtl_ir.tasks.degradations.jpeg import Jpeg
from cmtl_ir.tasks.degradations.jpeg_fast import JpegFast
from cmtl_ir.tasks.degradations.low_light import LowLight
from cmtl_ir.tasks.degradations.mosaic import Mosaic
from cmtl_ir.tasks.degradations.motion_blur import MotionBlur
from cmtl_ir.tasks.degradations.poisson_gaussian_noise import PoissonGaussianNoise
from cmtl_ir.tasks.degradations.rain_streaks import RainStreaks
from cmtl_ir.tasks.degradations.rain_veil import RainVeil

KEYS = keys_of(11, torch.arange(6))
PHOTO = torch.from_numpy(data.coffee()[:192, 100:308].copy()).permute(2, 0, 1)[None].float() / 255  # [1, 3, 192, 208]


def grey(value: float, height: int = 128, width: int = 128) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Six grey images with keys, origin and size."""
    origin = torch.zeros(6, 2, dtype=torch.int64)
    return torch.full((6, 3, height, width), value), KEYS, origin, torch.tensor([[height, width]] * 6)


def photo() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return PHOTO, KEYS[:1], torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[192, 208]])


def bytes_of(image: Tensor) -> np.ndarray:
    """[1, 3, h, w] -> [h, w, 3] uint8"""
    return (image[0] * 255).round().byte().permute(1, 2, 0).numpy()


# ----------------------------------------------------------------------------------------------------- noises


@pytest.mark.parametrize("sigma", [15.0, 25.0, 50.0])
def test_noise_has_its_standard_deviation(sigma: float) -> None:
    noise = (GaussianNoise(sigma=(sigma,), quantise="none")(*grey(0.5)) - 0.5) * 255
    assert abs(noise.mean()) < 0.2
    for multiple, share in ((0.5, 0.3829), (1, 0.6827), (2, 0.9545)):
        assert (noise.abs() < multiple * sigma).float().mean().item() == pytest.approx(share, abs=0.003)


@pytest.mark.parametrize(("quantise", "bias"), [("none", 0.0), ("round", 0.0), ("floor", -0.5)])
def test_flooring_darkens_by_half_a_level(quantise: str, bias: float) -> None:
    noisy = GaussianNoise(sigma=(15,), quantise=quantise)(*grey(0.5, 512, 512)) * 255
    assert noisy.mean() - 127.5 == pytest.approx(bias, abs=0.02)
    assert quantise == "none" or torch.equal(noisy, noisy.round())


def test_noise_levels_are_picked_equally() -> None:
    sigma = GaussianNoise().parameters(keys_of(0, torch.arange(3000)))["sigma"]
    assert [round((sigma == level).float().mean().item(), 1) for level in (15, 25, 50)] == [0.3, 0.3, 0.3]
    assert list(GaussianNoise().variants()) == ["sigma15", "sigma25", "sigma50"]


@pytest.mark.parametrize("rate", [0.05, 0.7, 3.9, 4.1, 9.0, 60.0, 4000.0])
def test_counts_are_poisson(rate: float) -> None:
    counts = poisson(KEYS, torch.full((6, 100_000), rate)).double()
    assert torch.equal(counts, counts.round())
    assert counts.mean().item() == pytest.approx(rate, rel=0.01)
    assert counts.var().item() == pytest.approx(rate, rel=0.015)
    skewness = ((counts - counts.mean()) ** 3).mean() / counts.std() ** 3
    assert skewness.item() == pytest.approx(rate**-0.5, rel=0.05, abs=0.01)


def test_sensor_noise_has_variance_shot_squared_x_plus_read_squared() -> None:
    noisy = PoissonGaussianNoise(shot=(0.1, 0.1), read=(0.05, 0.05))(*grey(0.4))
    assert noisy.mean().item() == pytest.approx(0.4, rel=0.01)
    assert noisy.var().item() == pytest.approx(0.1**2 * 0.4 + 0.05**2, rel=0.02)


def test_impulses_replace_their_share() -> None:
    noisy = ImpulseNoise(amount=(0.2, 0.2))(*grey(0.5))
    assert ((noisy == 0).float().mean().item(), (noisy == 1).float().mean().item()) == pytest.approx(
        (0.1, 0.1), rel=0.05
    )
    alike = ImpulseNoise(amount=(0.2, 0.2), coloured=False)(*grey(0.5))
    assert torch.equal(alike[:, 0], alike[:, 1]) and torch.equal(alike[:, 0], alike[:, 2])


# ---------------------------------------------------------------------------------------------------- weather


def test_haze_is_the_scattering_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Haze, "depth", staticmethod(lambda *_: torch.full((6, 1, 1, 1), 0.5)))
    hazy = Haze(beta=(2, 2), airlight=(0.9, 0.9), cast=0)(*grey(0.3))
    t = np.exp(-1.0)
    assert hazy.unique().tolist() == pytest.approx([0.3 * t + 0.9 * (1 - t)])


def test_depth_is_within_its_range_and_smooth() -> None:
    size = torch.tensor([[256, 256]] * 6)
    depth = Haze.depth(KEYS, torch.full((6,), 0.5), torch.zeros(6, 2, dtype=torch.int64), size, (256, 256))
    assert depth.min() >= 0 and depth.max() <= 1
    assert (depth[:, :, 1:] - depth[:, :, :-1]).abs().max() < 0.03
    assert (depth.amax((1, 2, 3)) - depth.amin((1, 2, 3))).min() > 0.3


@pytest.mark.parametrize("angle", [-40.0, 0.0, 25.0])
def test_rain_leans_by_its_angle_and_adds_its_mean(angle: float) -> None:
    part = RainStreaks(
        angle=(angle, angle), density=(0.001, 0.001), width=(0.6, 0.6), brightness=(0.3, 0.3), length=(30, 30)
    )
    rain = part.rain(KEYS, part.parameters(KEYS), torch.zeros(6, 2, dtype=torch.int64), (300, 300))[:, 0]
    tallest = torch.fft.fft2(rain).abs().square().mean(0)  # streaks: energy across the fall
    y = torch.fft.fftfreq(300)[:, None].expand(300, 300)
    x = torch.fft.fftfreq(300)[None, :].expand(300, 300)
    near = (x.abs() < 0.2) & (y.abs() < 0.2) & ((x != 0) | (y != 0))
    tilt = torch.linalg.eigh(_moments(tallest * near, y, x))[1][:, -1]  # main axis (y, x) of the spectrum
    assert np.degrees(np.arctan((tilt[0] / tilt[1]).item())) == pytest.approx(angle, abs=2)
    drop = 0.3 * 131.8 / 255  # mean of max(64, U{0 .. 255})
    expected = 0.001 * 30 * drop * 0.6 * np.sqrt(2 * np.pi)
    assert rain.mean().item() == pytest.approx(expected, rel=0.15)


def _moments(power: Tensor, y: Tensor, x: Tensor) -> Tensor:
    across = (power * x * y).sum()
    return torch.stack([(power * y * y).sum(), across, across, (power * x * x).sum()]).view(2, 2)


def test_veil_of_no_depth_leaves_the_rain() -> None:
    clear = RainVeil(veil=Haze(beta=(0, 0)))
    clean, keys, origin, size = grey(0.2)
    rain = clear.rain.rain(*_rain_arguments(clear, keys, origin))
    torch.testing.assert_close(clear(clean, keys, origin, size), (clean + rain).clamp(0, 1))


def _rain_arguments(
    part: RainVeil, keys: Tensor, origin: Tensor
) -> tuple[Tensor, dict[str, Tensor], Tensor, tuple[int, int]]:
    inner = substream(keys, "rain")
    return inner, part.rain.parameters(inner), origin, (128, 128)


def test_low_light_without_noise_is_a_power() -> None:
    part = LowLight(gamma=(2, 2), gain=(0.5, 0.5), noisy=False)
    torch.testing.assert_close(part(*photo()), 0.5 * PHOTO**2, atol=1e-6, rtol=1e-5)


def test_holes_cover_crops_and_images_alike() -> None:
    keys = keys_of(3, torch.arange(400))
    part = InpaintingMask(density=(0.6, 0.6))
    origin = torch.stack([torch.arange(400) * 7, torch.arange(400) * 3], 1)
    crops = part.holes(keys, part.parameters(keys), origin, (48, 48)).float().mean()
    images = part.holes(keys[:6], part.parameters(keys[:6]), origin[:6], (512, 512)).float().mean()
    assert crops.item() == pytest.approx(images.item(), rel=0.1)
    assert 0.05 < images < 0.4


# ------------------------------------------------------------------------------------------------------ blurs


def test_convolution_is_scipys() -> None:
    kernel = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0))
    ours = convolve(PHOTO, kernel)[0]
    theirs = [scipy_convolve(channel, kernel[0].numpy(), mode="mirror") for channel in PHOTO[0].numpy()]
    torch.testing.assert_close(ours, torch.from_numpy(np.stack(theirs)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("part", [GaussianBlur(), DefocusBlur(), MotionBlur()], ids=lambda part: type(part).__name__)
def test_kernels_are_distributions_that_displace_nothing(part: GaussianBlur | DefocusBlur | MotionBlur) -> None:
    parameters = part.parameters(KEYS)
    kernels = (
        parameters["kernel"]
        if isinstance(part, MotionBlur)
        else part.kernels(parameters["radius"] if isinstance(part, DefocusBlur) else parameters)  # type: ignore[arg-type]
    )
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(6))
    offsets = torch.arange(kernels.shape[1], dtype=torch.float32) - kernels.shape[1] // 2
    for axis in (1, 2):
        assert ((kernels.sum(axis) * offsets).sum(1)).abs().max() < 1e-3
    torch.testing.assert_close(part(*grey(0.6)), grey(0.6)[0])


def test_gaussian_kernel_has_its_sigma() -> None:
    part = GaussianBlur(sigma=(2, 2), window=(21, 21))
    kernel = part.kernels(part.parameters(KEYS[:1]))[0].sum(0)
    offsets = torch.arange(21) - 10.0
    assert (kernel * offsets.square()).sum().item() == pytest.approx(4, rel=0.01)
    windows = GaussianBlur().parameters(keys_of(0, torch.arange(500)))["window"]
    assert windows.unique().tolist() == list(range(7, 22, 2))


def test_disk_has_its_second_moment() -> None:
    part = DefocusBlur(radius=(6, 6))
    kernel = part.kernels(torch.tensor([6.0]))[0].sum(0)
    offsets = torch.arange(len(kernel)) - len(kernel) // 2.0
    assert (kernel * offsets.square()).sum().item() == pytest.approx(6**2 / 4, rel=0.03)


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_motion_kernels_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"kernels{suffix}"
    if suffix == ".npy":
        np.save(path, np.stack([np.eye(9), np.fliplr(np.eye(9))]))
    else:
        cells = np.empty((1, 2), dtype=object)
        cells[0, 0], cells[0, 1] = np.eye(9), np.ones((5, 5))
        savemat(path, {"kernels": cells})
    kernels = MotionBlur(kernels=str(path)).parameters(keys_of(0, torch.arange(40)))["kernel"]
    assert kernels.shape == (40, 9, 9)
    assert len(kernels.unique(dim=0)) == 2
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(40))


# ------------------------------------------------------------------------------------------- codecs and sensors


@pytest.mark.parametrize("quality", [10, 40, 90])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_jpeg_of_a_whole_image_is_pillows(quality: int, subsampling: str) -> None:
    image = PHOTO[:, :, :187, :203]
    ours = Jpeg(quality=(quality, quality), subsampling=subsampling)(image, *photo()[1:])
    buffer = io.BytesIO()
    Image.fromarray(bytes_of(image)).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    assert np.array_equal(bytes_of(ours), np.asarray(Image.open(buffer)))


@pytest.mark.parametrize("quality", [10, 30, 50, 70, 95])
def test_fast_jpeg_is_near_the_codec(quality: int) -> None:
    fast, exact = (part(quality=(quality, quality))(*photo()) for part in (JpegFast, Jpeg))
    assert ((fast - exact).abs().mean() * 255).item() < 0.8
    scores = [-10 * torch.log10((image - PHOTO).square().mean()).item() for image in (fast, exact)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downsampling_is_pillows_bicubic(factor: int) -> None:
    image = PHOTO[:, :, :180, :204]
    ours = Downsampling(factor=(factor,))(image, *photo()[1:])[0]
    theirs = []
    for channel in image[0].numpy():
        small = Image.fromarray(channel, "F").resize((204 // factor, 180 // factor), Image.Resampling.BICUBIC)
        theirs.append(np.asarray(small.resize((204, 180), Image.Resampling.BICUBIC)))
    inner = slice(4 * factor, -4 * factor)
    expected = torch.from_numpy(np.stack(theirs)).clamp(0, 1)
    torch.testing.assert_close(ours[:, inner, inner], expected[:, inner, inner], atol=1e-5, rtol=0)


def test_downsampling_without_antialias_is_miois() -> None:
    ours = Downsampling(factor=(4,), antialias=False)(*photo())
    small = F.interpolate(PHOTO, scale_factor=0.25, mode="bicubic")
    expected = F.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(ours[..., 16:-16, 16:-16], expected[..., 16:-16, 16:-16], atol=1e-5, rtol=0)


def test_mosaic_keeps_one_colour_a_pixel_and_flat_areas() -> None:
    raw = Mosaic(patterns=("rggb",), demosaic="none")(*photo())[0]
    assert torch.equal(raw[0, ::2, ::2], PHOTO[0, 0, ::2, ::2])
    assert torch.equal(raw[2, 1::2, 1::2], PHOTO[0, 2, 1::2, 1::2])
    assert torch.equal(raw[1, ::2, 1::2], PHOTO[0, 1, ::2, 1::2])
    assert torch.equal((raw > 0).sum(0) <= 1, torch.ones(192, 208, dtype=torch.bool))
    torch.testing.assert_close(Mosaic()(*grey(0.6)), grey(0.6)[0])


# ------------------------------------------------------------------------------------------------ composition


def test_order_matters_and_is_drawn_per_sample() -> None:
    parts = ({"name": "gaussian_noise", "sigma": [50]}, "gaussian_blur")
    given = Composition(parts=parts)(*photo())
    assert not torch.equal(given, Composition(parts=parts[::-1])(*photo()))
    keys = keys_of(0, torch.arange(64))
    order = Composition(parts=parts, order="random").parameters(keys)["order"]
    assert 16 < order[:, 0].sum() < 48 and torch.equal(order.sum(1), torch.ones(64, dtype=torch.int64))


def test_composition_at_a_severity_is_its_parts_at_that_severity() -> None:
    harsh = Composition.at_severity(5, parts=("gaussian_blur", "haze"))
    assert [type(part) for part in harsh.degradations] == [GaussianBlur, Haze]
    expected = [GaussianBlur.at_severity(5), Haze.at_severity(5)]
    assert [part.model_dump() for part in harsh.degradations] == [part.model_dump() for part in expected]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["rain_streaks", "hase"], "1: unknown degradation 'hase'; did you mean haze"),
        ([{"name": "haze", "bta": [1, 2]}], "0.bta: unknown key; did you mean beta"),
        ([{"beta": [1, 2]}], "0: expected a name"),
        ("haze", "expected a list"),
    ],
)
def test_composition_says_which_part_is_wrong(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Composition(parts=parts)
