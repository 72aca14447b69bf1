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

    Scores of an image are averaged over seeds first, so that the interval is over images. Images and seeds both count
    in the share of images made worse.
    """
    found: dict[str, list[Summary]] = {}
    for label in study.labels:
        rows = [row for row in study.frames.suites if row["label"] == label]
        if rows:
            harm = [one.harm for one in summaries(rows)]
            pairs = zip(summaries(_over_seeds(rows)), harm, strict=True)
            found[label] = [replace(one, harm=share) for one, share in pairs]
    return found


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in (*LINE, "answer", "image")), []).append(row)
    return [
        {**group[0], **{value: sum(float(row[value]) for row in group) / len(group) for value in VALUES}}
        for group in groups.values()
    ]
