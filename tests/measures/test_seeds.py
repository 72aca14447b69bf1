"""Claims about seeds: the smallest detectable difference and Stein's coverage, both checked by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cmtl_ir.measures import seeds


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_detectable_difference_is_found_in_80_percent_of_samples(n: int) -> None:
    samples = np.random.default_rng(n).normal(seeds.detectable(0.3, n), 0.3, (20_000, n))
    found = float((stats.ttest_1samp(samples, 0.0, axis=1).pvalue <= 0.05).mean())
    assert found == pytest.approx(0.8, abs=0.012)  # 4 standard errors


@pytest.mark.parametrize("difference", [0.1, 0.2, 0.5])
def test_the_seeds_needed_are_the_fewest_that_suffice(difference: float) -> None:
    n = seeds.seeds_needed(0.25, difference)
    assert seeds.power(difference / 0.25, n) >= 0.8 > seeds.power(difference / 0.25, n - 1)
    assert seeds.seeds_needed(0.0, difference) == 2


@pytest.mark.parametrize(("pilot", "half_width"), [(2, 1.0), (3, 0.5), (5, 2.0)])
def test_two_stages_cover_the_true_difference_in_95_percent_of_samples(pilot: int, half_width: float) -> None:
    """Normal differences of mean 0.7 and SD 1; two thirds of the plans are capped at 40 seeds in the first case."""
    random, hits, widths = np.random.default_rng(pilot), 0, list[float]()
    for _ in range(5000):
        first = random.normal(0.7, 1.0, pilot)
        needed = seeds.two_stage_seeds(float(first.std(ddof=1)), pilot, half_width)
        found = seeds.two_stage_interval(first, random.normal(0.7, 1.0, min(needed, 40) - pilot))
        hits += found.low <= 0.7 <= found.high
        if needed <= 40:
            widths.append((found.high - found.low) / 2)
    assert hits / 5000 == pytest.approx(0.95, abs=0.0125)
    assert widths and max(widths) <= half_width * (1 + 1e-12)


def test_the_number_of_seeds_is_steins() -> None:
    """t(.975, 2) = 4.3027: (4.3027 * 0.1 / 0.2)^2 = 4.63."""
    assert seeds.two_stage_seeds(0.1, 3, 0.2) == 5
    assert seeds.two_stage_seeds(0.01, 3, 0.2) == 3
    assert seeds.two_stage_half_width(0.1, 3, 5) == pytest.approx(4.3026527 * 0.1 / math.sqrt(5))


def test_differences_are_paired_by_seed_and_corrected_together() -> None:
    scores = {
        "joint": {0: 20.0, 1: 21.0, 2: 19.0, 3: 30.0},
        "pcgrad": {2: 19.3, 0: 20.2, 1: 21.25},
        "alike": {0: 20.0, 1: 21.0},
        "lone": {0: 25.0},
        "elsewhere": {9: 25.0},
    }
    found = seeds.over_seeds(scores, "joint")
    assert list(found) == ["pcgrad", "alike", "lone"]
    one, differences = found["pcgrad"], [0.2, 0.25, 0.3]
    test = stats.ttest_rel([20.2, 21.25, 19.3], [20.0, 21.0, 19.0])
    assert one.seeds == (0, 1, 2) and one.sd == pytest.approx(np.std(differences, ddof=1))
    assert one.p == pytest.approx(test.pvalue) and one.p_holm == pytest.approx(3 * test.pvalue)
    ends = test.confidence_interval()
    assert (one.difference.low, one.difference.high) == pytest.approx((ends.low, ends.high))
    assert one.significant and one.detectable == pytest.approx(0.05 * seeds.detectable_effect(3))
    assert found["alike"].reason == "no seed differs" and not found["alike"].significant
    assert "2 are needed" in found["lone"].reason and math.isnan(found["lone"].detectable)
