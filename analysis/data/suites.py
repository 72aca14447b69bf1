"""The suites of a comparison: each strategy's summaries over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cmtl_ir.measures.scale import PSNR
from cmtl_ir.suites.summary import LINE, Summary, summaries

from .study import Study

VALUES = (PSNR.name, f"{PSNR.name}_input")


def of_strategies(study: Study) -> dict[str, list[Summary]]:
    """Return strategy -> its summaries, for competing strategies that were scored on suites.

    Scores of an image are averaged over seeds and orders first, so that the interval is over images. All of them count
    in the share of images made worse.
    """
    found: dict[str, list[Summary]] = {}
    for label in study.labels:
        rows = [row for row in study.frames.suites if row["label"] == label]
        if rows:
            pairs = zip(summaries(_over_seeds(rows)), summaries(rows), strict=True)
            found[label] = [replace(one, harm=all_.harm, spread=all_.spread, cost=all_.cost) for one, all_ in pairs]
    return found


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in (*LINE, "answer", "image")), []).append(row)
    return [
        {**group[0], "order": 0, **{value: sum(float(row[value]) for row in group) / len(group) for value in VALUES}}
        for group in groups.values()
    ]
