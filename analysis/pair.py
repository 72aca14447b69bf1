"""Comparison of two strategies or runs: scores of every task, significance of their differences, and configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.measures import seeds as statistics
from cmtl_ir.measures.scale import Scale
from cmtl_ir.measures.seeds import SeedDifference
from cmtl_ir.measures.statistics import holm

from .data import fairness, measures, significance, sources
from .data.frames import Frames
from .data.significance import Verdict
from .data.sources import Source


@dataclass(frozen=True)
class Pair:
    """Comparison of a second strategy or run with a first one."""

    names: tuple[str, str]
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    """Seeds of the compared runs of each side."""
    left_out: tuple[tuple[int, ...], tuple[int, ...]]
    """Seeds of each side that the other side lacks, so that they are not compared."""
    reasons: list[str]
    """Why neither side may be called better. Empty if they are comparable."""
    made_of: list[tuple[str, str, str]]
    """(field, value of the first run, value of the second run) of every field in which the runs differ."""
    scores: dict[Scale, list[tuple[str, float, float, float]]]
    """Metric -> rows (task or mean, score of the degraded input, of the first side, of the second), PSNR first."""
    verdicts: dict[Scale, dict[str, Verdict]]
    """Metric -> task or mean -> verdict over images on the second side. Empty if the sides are not comparable."""
    over_seeds: dict[Scale, dict[str, SeedDifference]]
    """Metric -> task or mean -> difference over seeds. Empty for fewer than two seeds, or if not comparable."""
    others: list[tuple[str, float, float]]
    """(heading, value of the first side, value of the second side) of further measures. NaN if one does not apply."""


def compared(one: Mapping[int, Path], other: Mapping[int, Path], names: tuple[str, str]) -> Pair:
    """Compare finished runs, given as seed -> folder. Two single runs are compared whatever their seeds are.

    Otherwise the seeds that both sides have are compared. Raises UserError if there is none, or if both sides are the
    same runs.
    """
    sides = _paired(one, other, names)
    frames = Frames(_source(sides))
    identities = [frames.configs[member.run]["identity"] for member in frames.members]
    meanings = {
        (names[member.label == "other"], seed): fairness.meaning_of(identity, frames.steps[member.run])
        for member, identity, seed in zip(frames.members, identities, [s for side in sides for s in side], strict=True)
    }
    reasons = fairness.differences(meanings)
    scores = {scale: rows for scale in frames.scales if (rows := _scores(frames, scale))}
    verdicts = {scale: {} if reasons else _verdicts(frames, scale) for scale in scores}
    over_seeds = {scale: {} if reasons or len(sides[0]) < 2 else _over_seeds(frames, scale) for scale in scores}
    differing = _differing(identities[0], identities[len(sides[0])])
    shown = (tuple(sides[0]), tuple(sides[1]))
    left_out = (tuple(sorted(set(one) - set(sides[0]))), tuple(sorted(set(other) - set(sides[1]))))
    return Pair(names, shown, left_out, reasons, differing, scores, verdicts, over_seeds, _others(frames))


def _paired(one: Mapping[int, Path], other: Mapping[int, Path], names: tuple[str, str]) -> list[dict[int, Path]]:
    """Return the compared runs of both sides, in the same order of seeds."""
    shared = sorted(set(one) & set(other))
    if {folder.resolve() for folder in one.values()} & {folder.resolve() for folder in other.values()}:
        raise UserError(f"{names[0]!r} and {names[1]!r} are the same run: nothing to compare")
    if len(one) == len(other) == 1:
        return [dict(one), dict(other)]
    if not shared:
        listed = [", ".join(map(str, sorted(side))) for side in (one, other)]
        raise UserError(f"{names[0]} has seeds {listed[0]} and {names[1]} has {listed[1]}: none is the same")
    return [{seed: side[seed] for seed in shared} for side in (one, other)]


def _verdicts(frames: Frames, scale: Scale) -> dict[str, Verdict]:
    pairs = significance.paired(significance.per_image(frames, scale), "other", "one")
    found = significance.decided({("other", task): pair for task, pair in pairs.items()}, scale)
    return {task: verdict for (_, task), verdict in found.items()}


def _over_seeds(frames: Frames, scale: Scale) -> dict[str, SeedDifference]:
    """Return task or mean -> difference over seeds, corrected together."""
    table = measures.scores(frames).pivot_table(index=["label", "seed"], columns="task", values=scale.name)
    table = table.dropna(axis="columns")[[task for task in frames.tasks if task in table.dropna(axis="columns")]]
    if len(table.columns) > 1:
        table[significance.MEAN] = table.mean(axis="columns")
    found = {}
    for task in table:
        scores = {label: {int(seed): float(table[task][label, seed]) for seed in table.loc[label].index}
                  for label in ("one", "other")}  # fmt: skip
        found[str(task)] = statistics.over_seeds(scores, "one")["other"]
    corrected = holm([difference.p for difference in found.values()])
    return {task: replace(one, p_holm=float(p)) for (task, one), p in zip(found.items(), corrected, strict=True)}


def _source(sides: list[dict[int, Path]]) -> Source:
    """Return both sides as a comparison of two labels. Single runs get seed 0, which pairs any seeds."""
    single = len(sides[0]) == 1
    members = tuple(
        sources.member(label, 0 if single else seed, folder)
        for label, side in zip(("one", "other"), sides, strict=True)
        for seed, folder in side.items()
    )
    return Source("pair", "", members, {}, "", lambda: sources.journals(members))


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    unknown = {"training", "patch", "flips", "conflict"} if OUTSIDE in one or OUTSIDE in other else set()
    sides = [{key: value for key, value in side.items() if key not in unknown} for side in (one, other)]
    fields = [dict(_flat(side)) for side in sides]
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
    """Return one row per task that both sides scored by this metric, and their mean. Empty if there is no such task."""
    table = measures.scores(frames)
    columns = [
        table[table["label"] == label].groupby("task", sort=False)[column].mean().dropna()
        for label, column in (("one", f"{scale.name}_input"), ("one", scale.name), ("other", scale.name))
    ]
    common = [task for task in columns[0].index if task in columns[2].index]
    rows = [(task, *(float(column[task]) for column in columns)) for task in common]
    if len(common) > 1:
        rows.append((significance.MEAN, *(float(column[common].mean()) for column in columns)))
    return [(task, floor, first, second) for task, floor, first, second in rows]


def _others(frames: Frames) -> list[tuple[str, float, float]]:
    table = measures.of_runs(frames).groupby("label")[list(measures.MEASURES)].mean()
    wanted = ("worst_task", "harm_rate", "forgetting", "backward_transfer", "forward_transfer")
    found = [(measures.MEASURES[name], float(table[name]["one"]), float(table[name]["other"])) for name in wanted]
    cost = frames.cost.groupby("label").mean(numeric_only=True)
    shown = (
        ("parameters", "parameters", 1.0), ("CPU ms per step", "cpu_seconds_per_step", 1e3),
        ("GPU ms per step", "cuda_seconds_per_step", 1e3), ("wall ms per step", "seconds_per_step", 1e3),
        ("forward passes", "forward_passes", 1.0), ("backward passes", "backward_passes", 1.0),
        ("peak memory MB", "peak_memory_mb", 1.0),
    )  # fmt: skip
    for heading, column, factor in shown:
        found.append((heading, factor * float(cost[column]["one"]), factor * float(cost[column]["other"])))
    return [row for row in found if row[1] == row[1] or row[2] == row[2]]
