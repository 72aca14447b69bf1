"""Haze, rain and low light compared with their formulas, and masks with their density."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cmtl_ir.base.keyed import keys_of, substream
from cmtl_ir.tasks.degradations.haze import Haze
from cmtl_ir.tasks.degradations.inpainting_mask import InpaintingMask
from cmtl_ir.tasks.degradations.low_light import LowLight
from cmtl_ir.tasks.degradations.rain_streaks import RainStreaks
from cmtl_ir.tasks.degradations.rain_veil import RainVeil
from cmtl_ir.tasks.images.decode import DataError
from tests.tasks.degradation_inputs import KEYS, PHOTO, grey, photo


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


def test_given_depth_is_stretched_over_the_image_and_seen_alike_by_crops(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 5)[None, None, :].repeat(3, 1)  # [1, 3, 5]: far at the right
    np.save(tmp_path / "depths.npy", np.concatenate([ramp, ramp]))
    part = Haze(depths=str(tmp_path / "depths.npy"), beta=(2, 2), airlight=(1, 1), cast=0)
    clean, keys, origin, size = grey(0.0, 40, 60)
    full = part(clean, keys, origin, size)
    depth = ((torch.arange(60) + 0.5) / 60 * 5 - 0.5).clamp(0, 4) / 4
    expected = (1 - torch.exp(-2 * depth)).expand_as(full)
    torch.testing.assert_close(full, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(
        part(clean[..., 7:30, 11:50], keys, origin + torch.tensor([7, 11]), size), full[..., 7:30, 11:50]
    )


def test_depth_of_the_very_image_is_taken_as_it_is() -> None:
    part = Haze(beta=(1, 1), airlight=(1, 1), cast=0)
    clean, keys, origin, size = photo()
    depth = torch.linspace(0, 3, clean.shape[2])[None, None, :, None].expand(1, 1, *clean.shape[2:])
    hazy = part.degrade(clean, part.parameters(keys) | {"depth": depth}, keys, origin, size)
    torch.testing.assert_close(hazy, (clean - 1) * torch.exp(-depth) + 1)


@pytest.mark.error("degradation: depths that cannot be read")
@pytest.mark.parametrize(
    ("values", "message"), [(np.full((2, 2), 0.5), r"expected \[N, H, W\]"), (np.full((1, 2, 2), 7.0), "near.*far")]
)
def test_depths_that_are_none_are_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    path = tmp_path / "depths.npy"
    with pytest.raises(DataError, match=r"haze\.depths: .*depths\.npy: not a \.npy array.*name a file"):
        Haze(depths=str(path))(*grey(0.5))
    np.save(path, values)
    with pytest.raises(DataError, match=message):
        Haze(depths=str(path))(*grey(0.5))


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
