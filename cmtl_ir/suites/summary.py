"""What a suite says: gain over the degraded image, share of images made worse, reach, gap beyond the range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Interval, image_interval
from cmtl_ir.strategy.adaptation import KINDS
from cmtl_ir.suites.blocks import BEYOND, INSIDE

Rows = Sequence[Mapping[str, Any]]
EPISODIC = KINDS["image"]
NONE, ENSEMBLE, SINGLE = "none", "self_ensemble", "single"
"""Answers that each table has: one plain pass, eight passes, and the single-task run of the line's task."""
CONTROLS = (NONE, ENSEMBLE, SINGLE)
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
    kind: str
    """episodic, online or two passes: which table the answer stands in."""
    images: int
    identity: float
    """Mean score of the degraded images. Scores are means over images, never of a mean squared error."""
    score: float
    gain: Interval
    """Mean over images of score - identity, positive where the answer is better, with its interval over images."""
    harm: float
    """Share of images that are worse than the degraded ones, over all orders of an online answer."""
    spread: tuple[float, float]
    """Smallest and largest mean score over the orders of the images; both `score` where there is one order."""
    cost: Mapping[str, float]
    """Mean seconds and steps per image, largest drift and share of moved parameters. Empty without adaptation."""


def summaries(rows: Rows, scale: Scale = PSNR) -> list[Summary]:
    """Return one summary per line and answer of rows as `scoring.score` returns them, in their order.

    Scores of an image in several orders are averaged first, so that the interval is over images.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((*(row[key] for key in LINE), row["answer"]), []).append(row)
    return [_summary(key, group, scale) for key, group in groups.items()]


def _summary(key: tuple[Any, ...], rows: Rows, scale: Scale) -> Summary:
    suite, block, task, line, level, answer = key
    number = None if level == "" else int(level)
    orders: dict[str, list[tuple[str, float, float]]] = {}
    for row in rows:
        one = str(row.get("image", "")), float(row[scale.name]), float(row[f"{scale.name}_input"])
        orders.setdefault(str(row.get("order") or 0), []).append(one)
    if len(orders) > 1:  # each has its own sequence of the same images
        orders = {order: sorted(found) for order, found in orders.items()}
    scores = np.array([[score for _, score, _ in found] for found in orders.values()])  # [orders, images]
    inputs = np.array([[given for *_, given in found] for found in orders.values()])
    gains, means = scale.sign * (scores - inputs), scores.mean(1)
    return Summary(
        suite, block, task, line, number, answer, str(rows[0].get("kind") or EPISODIC), scores.shape[1],
        float(inputs.mean()), float(means.mean()), image_interval(gains.mean(0)), float((gains < 0).mean()),
        (float(means.min()), float(means.max())), _cost(rows),
    )  # fmt: skip


def _cost(rows: Rows) -> dict[str, float]:
    if rows[0].get("seconds") in (None, ""):
        return {}
    columns = {name: [float(row[name]) for row in rows] for name in ("seconds", "steps", "drift", "moved")}
    mean = {name: sum(columns[name]) / len(rows) for name in ("seconds", "steps")}
    return {**mean, **{name: max(columns[name]) for name in ("drift", "moved")}}


def kinds_of(found: Sequence[Summary]) -> list[str]:
    """Return the kinds of the tables of one suite. Episodic is one of them if it has adapters, or if it is alone."""
    kinds = [kind for kind in KINDS.values() if any(one.kind == kind for one in found)]
    alone = len(kinds) > 1 and all(one.answer in CONTROLS for one in found if one.kind == EPISODIC)
    return [kind for kind in kinds if kind != EPISODIC or not alone]


def of_kind(found: Sequence[Summary], kind: str) -> list[Summary]:
    """Return the answers of one kind, and those without adaptation, which stand in the table of every kind."""
    return [one for one in found if one.kind == kind or one.answer in CONTROLS]


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
