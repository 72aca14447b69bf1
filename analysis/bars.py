"""What each strategy gains on each task, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmtl_ir.statistics import Interval

from . import measures
from .study import Study
from .style import hatch, house, legend_below, looks, marker, save

REFERENCE = "single-task run"


def gain_bars(study: Study, path: Path) -> list[Path]:
    """Task x strategy: final PSNR minus that of the degraded input, in dB, with the 95 % t-interval over seeds."""
    tasks, table = study.frames.tasks, study.scores.assign(gain=study.scores["psnr"] - study.scores["psnr_input"])
    cells = measures.over_seeds(table, "gain", ["label", "task"])
    means = measures.over_seeds(study.measures, "gain", "label")
    groups = [*tasks, "mean"]
    with house() as plots:
        figure, axis = plots.subplots(
            figsize=(1.6 + 0.16 * len(groups) * (len(study.labels) + 1) + 0.5 * len(groups), 3.1), layout="constrained"
        )
        for place, label in enumerate(study.labels):
            values = [cells.get((label, task)) for task in tasks] + [means.get(label)]
            _bars(axis, study, label, place, values)
        _references(axis, study, tasks)
        axis.axhline(0.0, color="black", linewidth=0.8)
        axis.set_xticks(range(len(groups)), groups)
        axis.set_ylabel("gain over degraded input (dB)")
        legend_below(figure, axis, last=REFERENCE)
        return save(figure, path)


def _bars(axis: Any, study: Study, label: str, place: int, values: list[Interval | None]) -> None:
    count = len(study.labels)
    width = 0.8 / count
    at = np.arange(len(values)) - 0.4 + width * (place + 0.5)
    heights = [value.estimate if value else np.nan for value in values]
    look = looks(study.frames.labels)[label]
    axis.bar(
        at, heights, width * 0.92, color=look["color"], edgecolor="white", hatch=hatch(study.frames.labels, label),
        label=label,
    )  # fmt: skip
    half = [(value.high - value.low) / 2 if value and np.isfinite(value.low) else np.nan for value in values]
    axis.errorbar(at, heights, yerr=half, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)


def _references(axis: Any, study: Study, tasks: list[str]) -> None:
    found = measures.reference_scores(study.frames)
    floor = study.scores.drop_duplicates("task").set_index("task")["psnr_input"]
    label = REFERENCE
    for place, task in enumerate(tasks):
        if task in found:
            gain = found[task].estimate - floor[task]
            axis.plot(
                [place - 0.44, place + 0.44], [gain, gain], color="black", linewidth=1.4, dashes=(3, 1.5), label=label
            )
            label = "_nolegend_"


def pareto(study: Study, path: Path) -> list[Path]:
    """Mean PSNR in dB against milliseconds a step; a line joins the strategies that no other beats in both."""
    cost = measures.over_seeds(study.frames.cost, "seconds_per_step", "label")
    quality = measures.over_seeds(study.measures, "average", "label")
    labels = [label for label in study.labels if label in cost and label in quality]
    if len(labels) < 2:
        return []
    points = {label: (1e3 * cost[label].estimate, quality[label].estimate) for label in labels}
    with house() as plots:
        figure, axis = plots.subplots(figsize=(5.2, 3.3), layout="constrained")
        front = undominated(points)
        axis.plot(*zip(*(points[label] for label in front), strict=True), color="0.6", linewidth=1, zorder=1)
        for label in labels:
            _point(axis, study, label, cost[label], quality[label])
        axis.set(xlabel="cost (ms per step)", ylabel="mean PSNR (dB)")
        axis.margins(0.12)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", frameon=False)
        return save(figure, path)


def _point(axis: Any, study: Study, label: str, cost: Interval, quality: Interval) -> None:
    colour = looks(study.frames.labels)[label]["color"]
    halves = [
        [(found.high - found.low) / 2 * scale if np.isfinite(found.low) else 0.0]
        for found, scale in ((quality, 1.0), (cost, 1e3))
    ]
    axis.errorbar(
        [1e3 * cost.estimate], [quality.estimate], yerr=halves[0], xerr=halves[1], color=colour, elinewidth=0.8,
        marker=marker(study.frames.labels, label), markersize=7, linestyle="none", label=label, zorder=2,
    )  # fmt: skip


def undominated(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names of the points (cost, quality) that no other beats in both, cheapest first."""
    order = sorted(points, key=lambda name: (points[name][0], -points[name][1]))
    front: list[str] = []
    for name in order:
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front
