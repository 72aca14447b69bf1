"""Differences over seeds: their t-tests, the smallest difference that seeds detect, and Stein's two-stage procedure.

The unit is a seed. Two strategies with the same seed share their test images, the order of their data and their initial
weights, so that differences are paired by seed. Single numbers are in the metric's unit, such as dB.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from cmtl_ir.measures.statistics import LEVEL, Interval, holm, seed_interval

POWER = 0.8
"""Probability with which a difference is to be found significant at 5 %."""


@dataclass(frozen=True)
class SeedDifference:
    """Difference of one strategy to the baseline over the seeds that both have."""

    seeds: tuple[int, ...]
    difference: Interval
    """Mean over seeds of strategy - baseline with its 95 % t-interval."""
    sd: float
    """Standard deviation of the difference between seeds. NaN for fewer than two seeds."""
    p: float
    """Two-sided paired t-test over seeds. NaN for fewer than two seeds, or if no seed differs."""
    p_holm: float
    """`p` with Holm's correction for all strategies that are compared with the baseline."""

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is at most 5 %."""
        return self.p_holm <= 1 - LEVEL

    @property
    def reason(self) -> str:
        """Why nothing was tested. Empty if there is a p-value."""
        if math.isnan(self.p):
            return self.difference.reason or "no seed differs"
        return ""

    @property
    def detectable(self) -> float:
        """Smallest difference that these seeds detect. NaN for fewer than two seeds."""
        return detectable(self.sd, len(self.seeds)) if len(self.seeds) > 1 else math.nan


def default_baseline(labels: Sequence[str]) -> str:
    """Return `joint` if it is among the strategies, or else the first of them."""
    return "joint" if "joint" in labels else labels[0]


def over_seeds(scores: Mapping[str, Mapping[int, float]], baseline: str) -> dict[str, SeedDifference]:
    """Return strategy -> difference to the baseline. `scores`: strategy -> seed -> score.

    A strategy that shares no seed with the baseline is left out.
    """
    found = {}
    for label, own in scores.items():
        shared = sorted(set(own) & set(scores.get(baseline, {})))
        if label != baseline and shared:
            found[label] = _compared(shared, [own[seed] - scores[baseline][seed] for seed in shared])
    corrected = holm([one.p for one in found.values()])
    return {label: replace(one, p_holm=float(p)) for (label, one), p in zip(found.items(), corrected, strict=True)}


def _compared(seeds: Sequence[int], differences: Sequence[float]) -> SeedDifference:
    values = np.asarray(differences, dtype=np.float64)
    n, interval = len(values), seed_interval(values)
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    return SeedDifference(tuple(seeds), interval, sd, _p(interval.estimate, sd, n), math.nan)


def _p(mean: float, sd: float, n: int) -> float:
    if not math.isfinite(sd) or (sd == 0 and mean == 0):
        return math.nan
    if sd == 0:
        return 0.0
    from scipy import stats

    return float(2 * stats.t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1))


# ----------------------------------------------------------------------------------------------------------- power

NEGLIGIBLE = 4.0
"""Noncentrality from which a finding of the wrong sign is less likely than 1e-5. scipy returns NaN for some of them."""


def power(effect: float, n: int) -> float:
    """Return the probability that a two-sided paired t-test at 5 % over n seeds finds a difference of `effect` SDs.

    The test statistic has a noncentral t-distribution (Cohen, Statistical Power Analysis, 1988, chapter 2).
    """
    from scipy import stats

    critical, shift = stats.t.ppf(0.5 + LEVEL / 2, n - 1), effect * math.sqrt(n)
    wrong = stats.nct.cdf(-critical, n - 1, shift) if shift < NEGLIGIBLE else 0.0
    return float(stats.nct.sf(critical, n - 1, shift) + wrong)


@lru_cache(maxsize=4096)
def detectable_effect(n: int) -> float:
    """Return the smallest difference, in SDs of the per-seed difference, that n >= 2 seeds detect with 80 % power."""
    from scipy import optimize

    widest = 20.0  # of the noncentrality; two seeds need 16.3, more seeds less
    shift = optimize.brentq(lambda shift: power(shift / math.sqrt(n), n) - POWER, 0.0, widest, xtol=1e-9)
    return float(shift) / math.sqrt(n)


def detectable(sd: float, n: int) -> float:
    """Return the smallest difference that n >= 2 seeds detect with 80 % power if it varies by `sd` between seeds."""
    return sd * detectable_effect(n)


def seeds_needed(sd: float, difference: float) -> int:
    """Return the smallest number of seeds (at least 2) that detects a difference with 80 % power."""
    from scipy import stats

    quantiles = stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER)
    n = max(2, math.floor((quantiles * sd / difference) ** 2))  # of a known SD, which needs fewer
    while detectable(sd, n) > difference:
        n += 1
    return n


# ------------------------------------------------------------------------------------------- two-stage procedure


def two_stage_seeds(sd: float, pilot: int, half_width: float) -> int:
    """Return Stein's number of seeds max(n0, ceil((t s / d)^2)) after a pilot of n0 >= 2 seeds.

    t is the .975 quantile with n0 - 1 degrees of freedom, s the pilot's standard deviation, and d the half-width that
    the 95 % interval may have at most (Stein, Ann. Math. Stat. 1945).
    """
    return max(pilot, math.ceil((_quantile(pilot) * sd / half_width) ** 2))


def two_stage_half_width(sd: float, pilot: int, seeds: int) -> float:
    """Return the half-width t s / sqrt(N) of Stein's interval for N seeds, with s and t of the pilot."""
    return _quantile(pilot) * sd / math.sqrt(seeds)


def two_stage_interval(pilot: ArrayLike, further: ArrayLike) -> Interval:
    """Return Stein's 95 % interval of the mean of pilot [n0] and further seeds [N - n0].

    Its coverage is exact for normal differences, although N depends on the pilot: N depends on the pilot's standard
    deviation alone, which is independent of the mean. The usual t-interval of all N seeds is too narrow.
    """
    first = np.asarray(pilot, dtype=np.float64)
    values = np.concatenate([first, np.asarray(further, dtype=np.float64)])
    mean = float(values.mean())
    half = two_stage_half_width(float(first.std(ddof=1)), len(first), len(values))
    return Interval(mean, mean - half, mean + half, len(values))


@lru_cache(maxsize=256)
def _quantile(n: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.5 + LEVEL / 2, n - 1))
