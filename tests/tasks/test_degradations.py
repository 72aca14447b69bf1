"""Properties of every degradation, at its defaults and at every severity."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from skimage import data
from torch import Tensor

from cmtl_ir.base.keyed import keys_of
from cmtl_ir.strategy import registry

NAMES = registry.names("degradation")
SAME_IN_EVERY_CROP = ("haze", "rain_streaks", "rain_veil", "snow", "inpainting_mask")


def made(name: str, **fields: Any) -> Any:
    cls: Any = registry.load("degradation", name)
    return cls(**fields)


@cache
def photograph() -> Tensor:
    """[3, 192, 208]"""
    return torch.from_numpy(data.astronaut()[20:212, 120:328].copy()).permute(2, 0, 1).float() / 255


@cache
def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Five crops of an odd size, from five places in images of five sizes."""
    tops = (0, 17, 40, 61, 88)
    clean = torch.stack([photograph()[:, top : top + 47, top + 3 : top + 56] for top in tops])
    origin = torch.tensor([[0, 0], [3, 5], [100, 31], [8, 7], [12, 1600]])
    size = torch.tensor([[47, 53], [200, 300], [400, 600], [90, 61], [64, 2000]])
    return clean, keys_of(1, torch.arange(5)), origin, size


def whole(name_or_part: Any, image: Tensor, count: int = 4) -> Tensor:
    """A whole image degraded under `count` keys: [3, h, w] -> [count, 3, h, w]."""
    images = image.expand(count, -1, -1, -1)
    part = made(name_or_part) if isinstance(name_or_part, str) else name_or_part
    size = torch.tensor([image.shape[1:]]).expand(count, 2)
    return part(images, keys_of(5, torch.arange(count)), torch.zeros(count, 2, dtype=torch.int64), size)


@pytest.mark.parametrize("name", NAMES)
class TestEveryDegradation:
    def test_is_a_function_of_its_arguments(self, name: str) -> None:
        assert torch.equal(made(name)(*batch()), made(name)(*batch()))

    def test_sample_has_the_same_bits_in_every_batch(self, name: str) -> None:
        part, together = made(name), made(name)(*batch())
        for order in ([3, 0, 4, 1, 2], [2], [1, 4], [4, 4, 4, 0, 1, 2, 3]):
            assert torch.equal(part(*(argument[order] for argument in batch())), together[order])

    def test_memory_layout_does_not_matter(self, name: str) -> None:
        clean, *rest = batch()
        assert torch.equal(made(name)(clean.to(memory_format=torch.channels_last), *rest), made(name)(clean, *rest))

    def test_parameters_can_be_replayed(self, name: str) -> None:
        clean, keys, origin, size = batch()
        parameters = made(name).parameters(keys)
        assert all(len(value) == len(keys) for value in parameters.values())
        again = made(name).degrade(clean, parameters, keys, origin, size)
        assert torch.equal(again, made(name)(clean, keys, origin, size))

    def test_keys_differ(self, name: str) -> None:
        degraded = whole(name, photograph()[:, :64, :64], count=8)
        assert len(degraded.flatten(1).unique(dim=0)) > 1

    def test_stays_an_image(self, name: str) -> None:
        clean = batch()[0]
        degraded = made(name)(*batch())
        assert degraded.shape == clean.shape and degraded.dtype == torch.float32
        assert degraded.min() >= 0 and degraded.max() <= 1
        assert not torch.equal(degraded, clean)

    def test_black_white_and_tiny_images_stay_finite(self, name: str) -> None:
        for image in (torch.zeros(3, 32, 32), torch.ones(3, 32, 32), photograph()[:, :5, :3], photograph()[:, :1, :1]):
            degraded = whole(name, image)
            assert degraded.isfinite().all() and degraded.min() >= 0 and degraded.max() <= 1

    def test_leaves_its_arguments_alone(self, name: str) -> None:
        before = [argument.clone() for argument in batch()]
        made(name)(*batch())
        assert all(torch.equal(old, new) for old, new in zip(before, batch(), strict=True))

    def test_touches_no_global_generator(self, name: str) -> None:
        before = torch.get_rng_state()
        made(name)(*batch())
        assert torch.equal(before, torch.get_rng_state())

    def test_severity_lowers_psnr(self, name: str) -> None:
        if name == "composition":  # dark haze and bright haze: the parts' errors cancel
            pytest.skip("a claim about single degradations")
        cls: Any = registry.load("degradation", name)
        scores = []
        for level in range(1, 6):
            error = (whole(cls.at_severity(level), photograph()) - photograph()).square().mean()
            scores.append(-10 * torch.log10(error).item())
        assert scores == sorted(scores, reverse=True), scores

    def test_record_survives_json(self, name: str) -> None:
        cls: Any = registry.load("degradation", name)
        part = cls.at_severity(3)
        again = cls.model_validate_json(part.model_dump_json())
        assert again.model_dump() == part.model_dump()
        assert torch.equal(again(*batch()), part(*batch()))

    def test_every_field_is_documented(self, name: str) -> None:
        fields = registry.load("degradation", name).model_fields  # type: ignore[attr-defined]
        assert all(field.description for field in fields.values())

    def test_variants_are_degradations(self, name: str) -> None:
        for variant in made(name).variants().values():
            assert variant(*batch()).shape == batch()[0].shape


@pytest.mark.parametrize("name", SAME_IN_EVERY_CROP)
def test_crops_see_the_field_of_the_full_image(name: str) -> None:
    """Degrading a crop is the same bits as cropping the degraded image."""
    image, part = photograph()[None], made(name)
    keys, size = keys_of(7, torch.arange(1)), torch.tensor([image.shape[2:]])
    full = part(image, keys, torch.zeros(1, 2, dtype=torch.int64), size)
    for top, left, height, width in ((0, 0, 48, 48), (31, 42, 60, 59), (120, 5, 72, 203), (191, 207, 1, 1)):
        crop = image[:, :, top : top + height, left : left + width]
        seen = part(crop, keys, torch.tensor([[top, left]]), size)
        assert torch.equal(seen, full[:, :, top : top + height, left : left + width])


@pytest.mark.parametrize(
    ("name", "margin"),
    [("gaussian_blur", 11), ("defocus_blur", 9), ("motion_blur", 17), ("downsampling", 16), ("mosaic", 1), ("jpeg", 32),
     ("jpeg_fast", 32)],
)  # fmt: skip
def test_crops_agree_away_from_their_borders(name: str, margin: int) -> None:
    """Codecs and grids keep the phase of the full image; filters differ only where they would need absent pixels."""
    image, part = photograph()[None], made(name)
    keys, size = keys_of(7, torch.arange(1)), torch.tensor([image.shape[2:]])
    full = part(image, keys, torch.zeros(1, 2, dtype=torch.int64), size)
    seen = part(image[:, :, 21:142, 34:163], keys, torch.tensor([[21, 34]]), size)
    inner = (slice(None), slice(None), slice(margin, -margin), slice(margin, -margin))
    torch.testing.assert_close(seen[inner], full[:, :, 21:142, 34:163][inner], atol=2e-6, rtol=0)
