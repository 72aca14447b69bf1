"""The generalised Gaussian: the moment fit finds what made the draws, the closed-form KL is the integral."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, special

from cmtl_ir.strategies.grouping._ggd import GGD, distance, divergence, fit, of_sigma

SHAPES = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 6.0)
SCALES = (0.01, 1.0, 30.0)


def draws(alpha: float, beta: float, count: int = 400_000, key: int = 0) -> np.ndarray:
    generator = np.random.default_rng(key)
    return alpha * generator.gamma(1 / beta, size=count) ** (1 / beta) * generator.choice([-1.0, 1.0], size=count)


def of(alpha: float, beta: float) -> GGD:
    return GGD(np.array(alpha), np.array(beta))


@pytest.mark.parametrize("beta", SHAPES)
@pytest.mark.parametrize("alpha", SCALES)
def test_the_moment_fit_recovers_scale_and_shape(alpha: float, beta: float) -> None:
    found = fit(draws(alpha, beta), trim=None)
    assert found.beta == pytest.approx(beta, rel=0.03) and found.alpha == pytest.approx(alpha, rel=0.06)


@pytest.mark.parametrize("beta", [shape for shape in SHAPES if shape >= 1.5])
def test_with_the_trim_it_does_so_for_light_tails(beta: float) -> None:
    found = fit(draws(2.0, beta))
    assert found.beta == pytest.approx(beta, rel=0.03) and found.alpha == pytest.approx(2.0, rel=0.03)


def test_the_trim_makes_heavy_tails_look_lighter() -> None:
    values = draws(1.0, 0.5)
    assert fit(values).beta > 1.1 * fit(values, trim=None).beta


def test_many_fits_at_once_are_the_single_fits() -> None:
    values = np.stack([draws(1.0, beta, 2000, key) for key, beta in enumerate(SHAPES)])
    together, alone = fit(values), [fit(row) for row in values]
    assert np.array_equal(together.beta, [float(one.beta) for one in alone])
    assert np.array_equal(together.alpha, [float(one.alpha) for one in alone])


def test_a_fit_at_the_end_of_its_range_says_so() -> None:
    assert fit(np.array([0.0] * 999 + [1.0]), trim=None).saturated and not fit(draws(1.0, 2.0)).saturated


@pytest.mark.parametrize("beta", SHAPES)
def test_sigma_is_the_standard_deviation(beta: float) -> None:
    assert of(1.3, beta).sigma == pytest.approx(draws(1.3, beta).std(), rel=0.03)
    assert of_sigma(of(1.3, beta).sigma, np.array(beta)).alpha == pytest.approx(1.3, rel=1e-12)


def integrated(p: GGD, q: GGD) -> float:
    """KL(p || q) under u = (|x| / alpha)^beta, which turns p into u^(1/beta - 1) e^-u / Gamma(1 / beta)."""
    a, b = float(p.beta), float(q.beta)
    front = np.log(a / (2 * p.alpha)) - special.gammaln(1 / a) - np.log(b / (2 * q.alpha)) + special.gammaln(1 / b)

    def ratio(u: float) -> float:
        return float(front) - u + float(p.alpha / q.alpha * u ** (1 / a)) ** b

    near, _ = integrate.quad(
        lambda u: ratio(u) * np.exp(-u), 0, 1, weight="alg", wvar=(1 / a - 1, 0), epsabs=1e-11, limit=200
    )
    far, _ = integrate.quad(
        lambda u: ratio(u) * np.exp(-u) * u ** (1 / a - 1), 1, np.inf, epsabs=1e-11, epsrel=1e-10, limit=500
    )
    return (near + far) / special.gamma(1 / a)


@pytest.mark.parametrize(("first", "second"), list(itertools.product((0.5, 1.0, 1.7, 2.0, 4.0), repeat=2)))
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_the_closed_form_is_the_integral(first: float, second: float, scale: float) -> None:
    p, q = of(scale, first), of(1.0, second)
    assert divergence(p, q) == pytest.approx(integrated(p, q), rel=1e-6, abs=1e-6)


def test_two_gaussians_have_the_textbook_divergence() -> None:
    p, q = of_sigma(np.array(1.0), np.array(2.0)), of_sigma(np.array(2.0), np.array(2.0))
    assert divergence(p, q) == pytest.approx(np.log(2.0) + 1 / 8 - 0.5, abs=1e-12)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(SHAPES, 2)))
def test_the_distance_is_symmetric_positive_and_blind_to_a_common_scale(first: float, second: float) -> None:
    p, q = of(1.0, first), of(1.4, second)
    assert distance(p, q) == distance(q, p) > 0 and distance(p, p) == pytest.approx(0.0, abs=1e-12)
    assert distance(of(1e-6, first), of(1.4e-6, second)) == pytest.approx(distance(p, q), rel=1e-9)
