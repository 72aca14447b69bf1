"""Comparison of two runs: scores of every task, significance of their differences, and differing configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.measures.scale import Scale

from .data import fairness, measures, significance, sources
from .data.frames import Frames
from .data.significance import Verdict
from .data.sources import Source


@dataclass(frozen=True)
class Pair:
    """Comparison of a second run with a first one."""

    names: tuple[str, str]
    reasons: list[str]
    """Why neither run may be called better. Empty if the runs are comparable."""
    made_of: list[tuple[str, str, str]]
    """(field, value of the first run, value of the second run) of every field in which the runs differ."""
    scores: dict[Scale, list[tuple[str, float, float, float]]]
    """Metric -> rows (task or mean, score of the degraded input, of the first run, of the second run), PSNR first."""
    verdicts: dict[Scale, dict[str, Verdict]]
    """Metric -> task or mean -> verdict on the second run against the first. Empty if the runs are not comparable."""
    others: list[tuple[str, float, float]]
    """(heading, value of the first run, value of the second run) of further measures. NaN if one does not apply."""


def compared(one: Path, other: Path, names: tuple[str, str]) -> Pair:
    """Compare the folders of two finished runs. Raise UserError if both are the same run."""
    if one.resolve() == other.resolve():
        raise UserError(f"{names[0]!r} and {names[1]!r} are the same run, {one.name}: nothing to compare")
    frames = Frames(_source({"one": one, "other": other}))
    identities = [frames.configs[member.run]["identity"] for member in frames.members]
    steps = [frames.steps[member.run] for member in frames.members]
    meanings = [fairness.meaning_of(identity, taken) for identity, taken in zip(identities, steps, strict=True)]
    reasons = fairness.differences({(name, 0): meaning for name, meaning in zip(names, meanings, strict=True)})
    scores = {scale: rows for scale in frames.scales if (rows := _scores(frames, scale))}
    verdicts = {scale: {} if reasons else _verdicts(frames, scale) for scale in scores}
    return Pair(names, reasons, _differing(*identities), scores, verdicts, _others(frames))


def _verdicts(frames: Frames, scale: Scale) -> dict[str, Verdict]:
    pairs = significance.paired(significance.per_image(frames, scale), "other", "one")
    found = significance.decided({("other", task): pair for task, pair in pairs.items()}, scale)
    return {task: verdict for (_, task), verdict in found.items()}


def _source(folders: Mapping[str, Path]) -> Source:
    """Return both runs as a comparison of two labels. Both get seed 0, so that images are paired for any seeds."""
    members = tuple(sources.member(label, 0, folder) for label, folder in folders.items())
    return Source("pair", "", members, {}, "", lambda: sources.journals(members))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    fields = [dict(_flat(identity)) for identity in (one, other)]
    names = dict.fromkeys(name for known in fields for name in known)
    values = [(name, *(str(known.get(name, "–")) for known in fields)) for name in names]
    return [(name, first, second) for name, first, second in values if first != second]


def _flat(identity: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in identity.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", value


def _scores(frames: Frames, scale: Scale) -> list[tuple[str, float, float, float]]:
    """Return one row per task that both runs scored by this metric, and their mean. Empty if there is no such task."""
    table = measures.scores(frames)
    columns = [
        table[table["label"] == label].set_index("task")[column].dropna()
        for label, column in (("one", f"{scale.name}_input"), ("one", scale.name), ("other", scale.name))
    ]
    common = [task for task in columns[0].index if task in columns[2].index]
    rows = [(task, *(float(column[task]) for column in columns)) for task in common]
    if len(common) > 1:
        rows.append((significance.MEAN, *(float(column[common].mean()) for column in columns)))
    return [(task, floor, first, second) for task, floor, first, second in rows]


def _others(frames: Frames) -> list[tuple[str, float, float]]:
    table = measures.of_runs(frames).set_index("label")
    wanted = ("worst_task", "harm_rate", "forgetting", "backward_transfer", "forward_transfer")
    found = [(measures.MEASURES[name], float(table[name]["one"]), float(table[name]["other"])) for name in wanted]
    cost = frames.cost.set_index("label")
    shown = (
        ("parameters", "parameters", 1.0), ("CPU ms per step", "cpu_seconds_per_step", 1e3),
        ("GPU ms per step", "cuda_seconds_per_step", 1e3), ("wall ms per step", "seconds_per_step", 1e3),
        ("forward passes", "forward_passes", 1.0), ("backward passes", "backward_passes", 1.0),
        ("peak memory MB", "peak_memory_mb", 1.0),
    )  # fmt: skip
    for heading, column, factor in shown:
        found.append((heading, factor * float(cost[column]["one"]), factor * float(cost[column]["other"])))
    return [row for row in found if row[1] == row[1] or row[2] == row[2]]
