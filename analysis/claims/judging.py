"""Judgement of a claim from stored results: a paired difference over seeds, its interval, and what it could show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.problems import problems_of
from cmtl_ir.base.record import Record
from cmtl_ir.measures.seeds import detectable
from cmtl_ir.measures.statistics import Interval, seed_interval

from .results import Results, paired

Verdict = Literal["holds here", "fails here", "not resolved", "not measured"]


class Claim(Record):
    """One claim of a paper, and the comparison that tests it."""

    claim: str
    """The claim in words."""
    source: str
    """Key of the paper in papers.bib; `ours`: no paper claims it."""
    command: str
    """Command whose results are stored."""
    study: str
    """Name of the CSV file, without its suffix."""
    label: str
    """Strategy or method of which the claim speaks; LABEL+ADAPTER for its answers under an adapter."""
    against: str | float
    """Strategy or method that it is compared with, seed by seed, or a number."""
    measure: str = "psnr"
    """Measure of the stored results."""
    unit: str = "dB"
    """Unit of the measure; empty: none."""
    tasks: list[str] | None = Field(None, min_length=1)
    """Tasks whose mean is compared; null: all of them."""
    direction: Literal["higher", "lower", "not_lower", "not_higher", "differs", "equal"] = "higher"
    """What the claim says of `label` - `against`. not_lower, not_higher and equal allow for `least`."""
    least: float = Field(0.0, ge=0)
    """Smallest difference that matters. A claim of a difference fails if one of this size can be excluded."""

    @model_validator(mode="after")
    def _has_a_margin(self) -> Claim:
        if self.direction in ("not_lower", "not_higher", "equal", "differs") and self.least == 0:
            raise ValueError(f"least: is required for the direction {self.direction}")
        return self


@dataclass(frozen=True)
class Judged:
    """A claim with what the stored results say."""

    claim: Claim
    verdict: Verdict
    effect: Interval | None = None
    """Mean over seeds of label - against with its 95 % t-interval. `None` if it was not measured."""
    seen: float = math.nan
    """Smallest difference that these seeds detect with 80 % power. NaN for fewer than two seeds."""
    missing: str = ""
    """What the stored results lack. Empty if the claim was measured."""


def read_claims(file: Path) -> list[Claim]:
    """Return the claims of a YAML file with the key `claims`. Raise ConfigError with every mistake found."""
    listed = yaml.read(file).get("claims")
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{file}: expected `claims:` with a list of claims")
    made: list[Claim] = []
    problems: list[str] = []
    for number, one in enumerate(listed):
        try:
            made.append(Claim.model_validate(one))
        except ValidationError as error:
            problems += [f"  {problem}" for problem in problems_of(error, Claim, f"claims.{number}")]
    if problems:
        raise ConfigError(f"{file}:\n" + "\n".join(problems))
    return made


def judged(claim: Claim, studies: Mapping[str, Results]) -> Judged:
    """Return what the stored results say of a claim. `studies`: name of a CSV file -> its results."""
    results = studies.get(claim.study)
    if results is None:
        return Judged(claim, "not measured", missing=f"no {claim.study}.csv")
    ours = results.means(claim.label, claim.measure, claim.tasks)
    theirs: Any = claim.against
    if isinstance(theirs, str):
        theirs = results.means(theirs, claim.measure, claim.tasks)
    else:
        theirs = dict.fromkeys(ours, float(theirs))
    lacking = [name for name, own in ((claim.label, ours), (str(claim.against), theirs)) if not own]
    values = np.array(paired(ours, theirs))
    if not len(values):
        said = f"no {claim.measure} of {' and '.join(dict.fromkeys(lacking))}" if lacking else "no seed in common"
        return Judged(claim, "not measured", missing=f"{said} in {claim.study}.csv")
    effect = seed_interval(values)
    seen = detectable(float(values.std(ddof=1)), len(values)) if len(values) > 1 else math.nan
    return Judged(claim, _verdict(claim, effect), effect, seen)


def _verdict(claim: Claim, effect: Interval) -> Verdict:
    if not math.isfinite(effect.low):
        return "not resolved"
    low, high, least = effect.low, effect.high, claim.least
    if claim.direction in ("lower", "not_higher"):
        low, high = -high, -low
    holds, fails = {
        "higher": (low > 0, high < least),
        "lower": (low > 0, high < least),
        "not_lower": (low > -least, high < -least),
        "not_higher": (low > -least, high < -least),
        "differs": (low > 0 or high < 0, -least < low and high < least),
        "equal": (-least < low and high < least, low > least or high < -least),
    }[claim.direction]
    return "holds here" if holds else "fails here" if fails else "not resolved"
