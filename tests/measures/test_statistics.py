"""Intervals cover what they promise, corrections match hand examples, and small samples are refused with a reason."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from scipy import stats

from cmtl_ir.measures import statistics
from cmtl_ir.measures.statistics import (
    Interval,
    compare_images,
    holm,
    image_interval,
    ratio_of_sums,
    seed_interval,
    smallest_sample,
)

NAN = math.nan


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coverage needs hundreds of intervals; 999 resamples each are enough for that."""
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


def coverage(intervals: Iterable[Interval], truth: float) -> float:
    return float(np.mean([one.low <= truth <= one.high for one in intervals]))


# --- over seeds -----------------------------------------------------------------------------------------------------


def test_the_seed_interval_of_a_hand_example() -> None:
    """28, 29, 30: mean 29, s = 1, t_{.975, 2} = 4.303."""
    found = seed_interval([28.0, 29.0, 30.0])
    assert (found.estimate, found.n, found.reason) == (29.0, 3, "")
    assert found.high - found.estimate == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert found.estimate - found.low == pytest.approx(found.high - found.estimate)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_seed_interval_covers_95_percent_where_a_percentile_bootstrap_does_not(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    samples = random.normal(30.0, 0.3, (2000, seeds))
    assert coverage(map(seed_interval, samples), 30.0) == pytest.approx(0.95, abs=0.015)
    resampled = samples[:, random.integers(0, seeds, (500, seeds))].mean(axis=2)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    assert np.mean((low <= 30.0) & (high >= 30.0)) < 0.88


@pytest.mark.parametrize(("values", "why"), [([], "too few"), ([30.0], "too few"), ([30.0, NAN], "finite")])
def test_one_seed_or_a_broken_one_has_no_interval(values: list[float], why: str) -> None:
    found = seed_interval(values)
    assert why in found.reason and math.isnan(found.low) and math.isnan(found.high)


# --- over images ----------------------------------------------------------------------------------------------------


def test_the_image_interval_is_scipys_bca() -> None:
    sample = np.random.default_rng(0).lognormal(0, 0.5, 40)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=9999, random_state=np.random.default_rng(3))
    found = image_interval(sample, seed=3)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)
    assert found == image_interval(sample, seed=3)  # no global generator: asking twice gives the same digits


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(("family", "truth"), [("normal", 0.0), ("gamma", 1.0)])
def test_the_image_interval_covers_a_mean_of_fifty_images(family: str, truth: float) -> None:
    """95 % are promised; the gamma's skewness is 1."""
    random = np.random.default_rng(2)
    samples = random.normal(0.0, 1.0, (600, 50)) if family == "normal" else random.gamma(4.0, 0.25, (600, 50))
    assert 0.92 <= coverage(map(image_interval, samples), truth) <= 0.97


def test_fewer_than_twenty_images_are_not_bootstrapped() -> None:
    found = image_interval(np.arange(19.0))
    assert found.estimate == 9.0 and math.isnan(found.low) and "19 images, 20 are needed" in found.reason
    assert image_interval(np.arange(20.0)).reason == ""


def test_equal_images_have_an_interval_of_no_width() -> None:
    found = image_interval(np.full(25, 100.0))
    assert (found.low, found.estimate, found.high) == (100.0, 100.0, 100.0)


def test_a_broken_image_has_no_interval() -> None:
    assert "finite" in image_interval([*range(30), NAN]).reason


# --- comparisons ----------------------------------------------------------------------------------------------------


def test_holm_of_a_hand_example() -> None:
    """p = .01 .04 .03 .005, m = 4: 4 x .005, 3 x .01, 2 x .03, and .04 raised to its predecessor's .06."""
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_holm_counts_what_was_not_tested() -> None:
    np.testing.assert_allclose(holm([0.01, NAN, 0.02]), [0.03, NAN, 0.04])
    np.testing.assert_allclose(holm([0.01], comparisons=5), [0.05])
    with pytest.raises(ValueError, match="cannot be part"):
        holm([0.1, 0.2], comparisons=1)


def test_holm_is_never_above_one_nor_below_the_raw_value() -> None:
    p = np.random.default_rng(0).uniform(size=30)
    corrected = holm(p)
    assert (corrected <= 1).all() and (corrected >= p).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()


@pytest.mark.parametrize(("comparisons", "images"), [(1, 6), (3, 7), (12, 9)])
def test_too_few_to_test(comparisons: int, images: int) -> None:
    """Even winning on every image gives p = 2^(1-n), which must reach .05 / m."""
    assert smallest_sample(comparisons) == images
    assert 2.0 ** (1 - images) <= 0.05 / comparisons < 2.0 ** (2 - images)
    baseline, better = np.zeros(images), np.arange(1.0, images + 1)
    enough = compare_images(baseline, {"ours": better}, comparisons)["ours"]
    assert enough.p == pytest.approx(2.0 ** (1 - images)) and enough.significant and enough.reason == ""
    fewer = compare_images(baseline[1:], {"ours": better[1:]}, comparisons)["ours"]
    assert fewer.reason.startswith("too few to test") and math.isnan(fewer.p_holm) and not fewer.significant


def test_images_that_tie_do_not_count() -> None:
    found = compare_images(np.zeros(50), {"ours": np.array([1.0, 2.0, 3.0, 4.0, 5.0] + [0.0] * 45)})["ours"]
    assert found.n == 5 and found.median_difference == 0.0 and "too few to test: 5 images" in found.reason


def test_the_test_is_scipys_and_two_sided() -> None:
    random = np.random.default_rng(5)
    baseline = random.normal(28, 3, 40)
    methods = {"better": baseline + random.normal(0.5, 0.4, 40), "same": baseline + random.normal(0, 0.4, 40)}
    found = compare_images(baseline, methods)
    for name, scores in methods.items():
        assert found[name].p == pytest.approx(stats.wilcoxon(scores, baseline).pvalue)
    assert found["better"].p_holm == pytest.approx(2 * found["better"].p)
    assert found["better"].significant and not found["same"].significant
    worse = compare_images(methods["better"], {"baseline": baseline})["baseline"]
    assert worse.p == pytest.approx(found["better"].p)
    assert worse.median_difference == -found["better"].median_difference


def test_ten_equal_methods_are_rarely_called_different() -> None:
    """Without Holm four in ten such tables would hold a "significant" winner."""
    random = np.random.default_rng(8)
    corrected = uncorrected = 0
    for _ in range(200):
        baseline = random.normal(size=25)
        found = compare_images(baseline, {str(i): baseline + random.normal(size=25) for i in range(10)}).values()
        corrected += any(one.significant for one in found)
        uncorrected += any(one.p <= 0.05 for one in found)
    assert corrected / 200 <= 0.08 and uncorrected / 200 >= 0.25


def test_scores_of_different_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="same images"):
        compare_images(np.zeros(8), {"ours": np.zeros(9)})


def test_a_broken_score_is_not_tested() -> None:
    found = compare_images(np.zeros(8), {"ours": [1, 2, 3, 4, 5, 6, 7, NAN]})["ours"]
    assert "finite" in found.reason and not found.significant


# --- over steps -----------------------------------------------------------------------------------------------------


def autoregressive(steps: int, series: int, rho: float, random: np.random.Generator) -> np.ndarray:
    """[steps, series], variance 1, neighbours correlated by rho."""
    noise = random.standard_normal((steps + 50, series))
    values = np.zeros_like(noise)
    for t in range(1, steps + 50):
        values[t] = rho * values[t - 1] + math.sqrt(1 - rho**2) * noise[t]
    return values[50:]


def test_a_ratio_of_sums_is_pooled_not_a_mean_of_ratios() -> None:
    found = ratio_of_sums(np.tile([1.0, 6.0], 10), np.tile([1.0, 2.0], 10))
    assert found.estimate == pytest.approx(7 / 3) and found.low < 7 / 3 < found.high


def test_two_denominators_give_a_cosine() -> None:
    ones = np.ones(20)
    found = ratio_of_sums(3 * ones, 4 * ones, 9 * ones)
    assert (found.low, found.estimate, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("steps", "rho", "least"), [(18, 0.0, 0.91), (100, 0.0, 0.91), (18, 0.5, 0.82), (100, 0.5, 0.86)]
)
def test_the_noise_corrected_cosine_is_covered(steps: int, rho: float, least: float) -> None:
    random = np.random.default_rng(steps)
    found = []
    for _ in range(250):
        noise = 0.3 * autoregressive(steps, 3, rho, random)
        found.append(ratio_of_sums(0.6 + noise[:, 0], 1 + noise[:, 1], 1 + noise[:, 2]))
    assert least <= coverage(found, 0.6) <= 0.99
    assert np.mean([one.estimate for one in found]) == pytest.approx(0.6, abs=0.02)


def test_neighbouring_steps_that_agree_widen_the_interval() -> None:
    """Resampling single steps would take 100 correlated steps for 100 independent ones."""
    random = np.random.default_rng(3)
    numerator, ones = autoregressive(100, 1, 0.8, random)[:, 0], np.ones(100)
    alone, blocks = (ratio_of_sums(numerator, ones, block=block) for block in (1, None))
    assert blocks.high - blocks.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_interval_does_not_depend_on_the_scale_of_the_gradients(scale: float) -> None:
    noise = 0.3 * np.random.default_rng(0).standard_normal((3, 30))
    plain = ratio_of_sums(0.6 + noise[0], 1 + noise[1], 1 + noise[2])
    scaled = ratio_of_sums(scale * (0.6 + noise[0]), scale * (1 + noise[1]), scale * (1 + noise[2]))
    assert (scaled.low, scaled.estimate, scaled.high) == pytest.approx((plain.low, plain.estimate, plain.high))


@pytest.mark.parametrize("level", [0.02, -0.02, -5.0])
def test_a_denominator_that_reaches_zero_is_not_measurable(level: float) -> None:
    noise = np.random.default_rng(1).standard_normal((2, 40))
    found = ratio_of_sums(0.5 + noise[0], level + noise[1], np.ones(40))
    assert found.reason.startswith("not measurable") and math.isnan(found.estimate)


def test_few_or_broken_steps_have_no_interval() -> None:
    few = ratio_of_sums(np.ones(11), np.ones(11))
    assert few.estimate == 1.0 and "11 steps, 12 are needed" in few.reason
    assert "finite" in ratio_of_sums([NAN] * 20, np.ones(20)).reason
    assert math.isnan(ratio_of_sums([], []).estimate)


def test_the_same_seed_gives_the_same_interval() -> None:
    numerator, ones = np.random.default_rng(0).normal(1, 1, 50), np.ones(50)
    assert ratio_of_sums(numerator, ones) == ratio_of_sums(numerator, ones)
    assert ratio_of_sums(numerator, ones) != ratio_of_sums(numerator, ones, seed=1)
