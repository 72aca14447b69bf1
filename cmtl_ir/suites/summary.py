"""What a suite says: gain over the degraded image, share of images made worse, reach, gap beyond the range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Interval, image_interval
from cmtl_ir.suites.blocks import BEYOND, INSIDE

Rows = Sequence[Mapping[str, Any]]
LINE = ("suite", "block", "task", "line", "level")
"""Columns that tell lines apart."""


@dataclass(frozen=True)
class Summary:
    """One answer to one line."""

    suite: str
    block: str
    task: str
    line: str
    level: int | None
    answer: str
    images: int
    identity: float
    """Mean score of the degraded images. Scores are means over images, never of a mean squared error."""
    score: float
    gain: Interval
    """Mean over images of score - identity, positive where the answer is better, with its interval over images."""
    harm: float
    """Share of images that are worse than the degraded ones."""


def summaries(rows: Rows, scale: Scale = PSNR) -> list[Summary]:
    """Return one summary per line and answer of rows as `scoring.score` returns them, in their order."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((*(row[key] for key in LINE), row["answer"]), []).append(row)
    return [_summary(key, group, scale) for key, group in groups.items()]


def _summary(key: tuple[Any, ...], rows: Rows, scale: Scale) -> Summary:
    scores = [float(row[scale.name]) for row in rows]
    inputs = [float(row[f"{scale.name}_input"]) for row in rows]
    gains = [scale.sign * (score - given) for score, given in zip(scores, inputs, strict=True)]
    suite, block, task, line, level, answer = key
    count = len(rows)
    number = None if level == "" else int(level)
    harm = sum(gain < 0 for gain in gains) / count
    means = sum(inputs) / count, sum(scores) / count
    return Summary(suite, block, task, line, number, answer, count, *means, image_interval(gains), harm)


def reach(gains: Mapping[int, float]) -> str:
    """Return the first severity at which the gain is below 0, or `5+` if there is none. `gains`: severity -> gain."""
    return next((str(level) for level in sorted(gains) if gains[level] < 0), "5+")


def beyond_gap(found: Iterable[Summary]) -> float | None:
    """Return the mean gain inside the training range minus that beyond it, over severities.

    `None` if there is no level on one of the two sides.
    """
    sides: dict[str, list[float]] = {INSIDE: [], BEYOND: []}
    for one in found:
        if one.block in sides:
            sides[one.block].append(one.gain.estimate)
    inside, beyond = sides[INSIDE], sides[BEYOND]
    return sum(inside) / len(inside) - sum(beyond) / len(beyond) if inside and beyond else None
