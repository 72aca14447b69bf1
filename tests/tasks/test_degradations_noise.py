"""Noises compared with their distributions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmtl_ir.base.keyed import keys_of
from cmtl_ir.tasks.degradations._photons import poisson
from cmtl_ir.tasks.degradations.gaussian_noise import GaussianNoise
from cmtl_ir.tasks.degradations.impulse_noise import ImpulseNoise
from cmtl_ir.tasks.degradations.poisson_gaussian_noise import PoissonGaussianNoise
from tests.tasks.degradation_inputs import KEYS, grey


@pytest.mark.parametrize("sigma", [15.0, 25.0, 50.0])
def test_noise_has_its_standard_deviation(sigma: float) -> None:
    noise = (GaussianNoise(sigma=(sigma,), quantise="none")(*grey(0.5)) - 0.5) * 255
    assert abs(noise.mean()) < 0.2
    for multiple, share in ((0.5, 0.3829), (1, 0.6827), (2, 0.9545)):
        assert (noise.abs() < multiple * sigma).float().mean().item() == pytest.approx(share, abs=0.003)


@pytest.mark.parametrize(("quantise", "bias"), [("none", 0.0), ("round", 0.0), ("floor", -0.5)])
def test_flooring_darkens_by_half_a_level(quantise: Any, bias: float) -> None:
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
