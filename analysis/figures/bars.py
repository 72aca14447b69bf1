"""Gain of each strategy on each task, and quality against cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Interval

from ..data import measures
from ..data.cost import Clock, clock_of
from ..data.study import Study
from .matrices import input_scores
from .style import house, legend_name, looks, marker, panels, save

LEGEND = 13
"""Maximum number of strategies in a column of the legend."""
WIDE = 5
"""Ratio of the highest to the lowest cost above which the scale is logarithmic."""


def gain_bars(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw one panel per task with one bar per strategy: gain over the degraded input, with its 95 % t-interval."""
    table = study.scores.assign(gain=scale.sign * (study.scores[scale.name] - study.scores[f"{scale.name}_input"]))
    cells = measures.over_seeds(table, "gain", ["label", "task"])
    means = measures.over_seeds(study.measures_of(scale), "gain", "label")
    if not cells:
        return []
    names = [*study.frames.tasks, "mean over tasks"]
    with house() as plots:
        height = 0.75 + 0.22 * (len(study.labels) + 1)
        figure, axes = panels(plots, len(names), width=2.7, height=height, columns=4)
        for place, (axis, task) in enumerate(zip(axes, names, strict=True)):
            _bars(
                axis,
                study,
                [means.get(label) if task == names[-1] else cells.get((label, task)) for label in study.labels],
            )
            _reference(axis, study, task, scale)
            axis.set(title=task, yticks=range(len(study.labels)), ylim=(len(study.labels) - 0.4, -0.6))
            is_left = place == 0 or axis.get_subplotspec().is_first_col()
            axis.set_yticklabels(study.labels if is_left else [])
            if axis.get_subplotspec().is_last_row() or place >= len(names) - 1:
                axis.set_xlabel(f"gain over degraded input ({scale.unit or scale.label})")
        return save(figure, path)


def _bars(axis: Any, study: Study, values: list[Interval | None]) -> None:
    at, look = np.arange(len(values)), looks(study.frames.labels)
    widths = [value.estimate if value else np.nan for value in values]
    half = [(value.high - value.low) / 2 if value and np.isfinite(value.low) else np.nan for value in values]
    axis.barh(at, widths, 0.75, color=[look[label]["color"] for label in study.labels])
    axis.errorbar(widths, at, xerr=half, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
    axis.axvline(0.0, color="black", linewidth=0.8)


def _reference(axis: Any, study: Study, task: str, scale: Scale) -> None:
    """Draw a dashed line at the gain of the task's single-task run."""
    found = measures.reference_scores(study.frames, scale.name)
    if task in found:
        gain = scale.sign * (found[task].estimate - input_scores(study, scale)[task])
        axis.axvline(gain, color="0.25", linewidth=1.2, dashes=(3, 1.5))


def pareto(study: Study, path: Path) -> list[Path]:
    """Draw mean PSNR in dB against time per step. A line joins the strategies that no other beats in both.

    The time is that of `cost.clock_of`.
    """
    clock = clock_of(study)
    cost = measures.over_seeds(study.frames.cost, clock.column, "label")
    quality = measures.over_seeds(study.measures, "average", "label")
    labels = [label for label in study.labels if label in cost and label in quality]
    if len(labels) < 2:
        return []
    points = {label: (1e3 * cost[label].estimate, quality[label].estimate) for label in labels}
    columns = -(-len(labels) // LEGEND)
    with house() as plots:
        figure, axis = plots.subplots(figsize=(3.6 + 1.6 * columns, 3.3), layout="constrained")
        front = undominated(points)
        axis.plot(*zip(*(points[label] for label in front), strict=True), color="0.6", linewidth=1, zorder=1)
        for label in labels:
            _point(axis, study, label, quality[label], clock)
        axis.set(xlabel=f"cost ({clock.unit} per step)", ylabel="mean PSNR (dB)")
        if points[front[0]][0] * WIDE < max(cost for cost, _ in points.values()):
            axis.set(xscale="log", xlabel=f"cost ({clock.unit} per step, logarithmic)")
            axis.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
        axis.margins(0.12)
        handles = axis.get_legend_handles_labels()
        figure.legend(*handles, loc="outside right center", frameon=False, ncols=columns)
        return save(figure, path)


def _point(axis: Any, study: Study, label: str, quality: Interval, clock: Clock) -> None:
    cost = study.frames.cost
    times = 1e3 * cost[cost["label"] == label][clock.column].dropna()
    half = (quality.high - quality.low) / 2 if np.isfinite(quality.low) else 0.0
    mean = float(times.mean())
    axis.errorbar(
        [mean], [quality.estimate], yerr=[half], xerr=[[mean - times.min()], [times.max() - mean]],
        color=looks(study.frames.labels)[label]["color"], elinewidth=0.8, marker=marker(study.frames.labels, label),
        markersize=7, linestyle="none", label=legend_name(label), zorder=2,
    )  # fmt: skip


def undominated(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points (cost, quality) that no other point beats in both, cheapest first."""
    order = sorted(points, key=lambda name: (points[name][0], -points[name][1]))
    front: list[str] = []
    for name in order:
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front
