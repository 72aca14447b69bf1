"""Gain of each strategy on each task, and quality against cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cmtl_ir.base.escaping import one_line
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import seed_interval

from ..data import measures
from ..data.cost import Clock, clock_of
from ..data.study import Study
from . import direct
from .matrices import input_scores
from .style import house, legend_name, looks, lowest, panels, points, save, title

LEGEND = 13
"""Maximum number of strategies in a column of the legend."""
WIDTH = 2.7
"""Width of a panel of gains in inches."""
WHISKERS = 3
"""Minimum number of seeds for intervals. That of two seeds is 12.7 times as wide as their standard error."""
WIDE = 5
"""Ratio of the highest to the lowest cost above which the scale is logarithmic."""


def gain_bars(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw one panel per task with one bar per strategy: gain over the degraded input, and its value.

    From `WHISKERS` seeds on, with its 95 % t-interval. With fewer seeds, each seed is a point.
    """
    table = study.scores.assign(gain=scale.sign * (study.scores[scale.name] - study.scores[f"{scale.name}_input"]))
    table = table[table["label"].isin(study.labels)].dropna(subset=["gain"])
    if table.empty:
        return []
    means = study.measures_of(scale).dropna(subset=["gain"]).assign(task="mean over tasks")
    names = [*study.frames.tasks, "mean over tasks"]
    with house() as plots:
        height = 0.75 + 0.22 * (len(study.labels) + 1)
        figure, axes = panels(plots, len(names), width=WIDTH, height=height, columns=4)
        for place, (axis, task) in enumerate(zip(axes, names, strict=True)):
            own = means if task == names[-1] else table[table["task"] == task]
            _reference(axis, study, task, scale)
            _bars(axis, study, {str(label): one["gain"].to_numpy() for label, one in own.groupby("label")})
            axis.set(title=title(task, WIDTH), yticks=range(len(study.labels)), ylim=(len(study.labels) - 0.4, -0.6))
            is_left = place == 0 or axis.get_subplotspec().is_first_col()
            axis.set_yticklabels(study.labels if is_left else [])
        for axis in lowest(axes):
            axis.set_xlabel(f"gain over degraded input ({scale.unit or scale.label})")
        return save(figure, path)


def _bars(axis: Any, study: Study, gains: dict[str, np.ndarray]) -> None:
    """Draw one bar per strategy. `gains`: label -> gain of every seed."""
    look = looks(study.frames.labels)
    axis.axvline(0.0, color="black", linewidth=0.8)
    for at, label in enumerate(study.labels):
        if label not in gains:
            continue
        seeds, found = gains[label], seed_interval(gains[label])
        axis.barh(at, found.estimate, 0.75, color=look[label]["color"])
        if len(seeds) >= WHISKERS:
            half = (found.high - found.low) / 2
            axis.errorbar(found.estimate, at, xerr=half, fmt="none", ecolor="black", elinewidth=0.9, capsize=2)
        else:
            own = {**points(look[label]), "color": "white", "markeredgecolor": "black"}
            axis.plot(seeds, np.full(len(seeds), at), markersize=4, markeredgewidth=0.8, **own)
    low, high = axis.get_xlim()
    axis.set_xlim(low, high + 0.3 * (high - low))  # room for the values
    for at, label in enumerate(study.labels):
        if label in gains:
            text = f"{gains[label].mean():+.2f}"
            axis.text(0.995, at, text, ha="right", va="center", fontsize=7, transform=axis.get_yaxis_transform())


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
    places = {label: (1e3 * cost[label].estimate, quality[label].estimate) for label in labels}
    columns = -(-len(labels) // LEGEND)
    with house() as plots:
        figure, axis = plots.subplots(figsize=(3.6 + 1.6 * columns, 3.3 + 0.7 * (columns - 1)), layout="constrained")
        front = undominated(places)
        axis.plot(*zip(*(places[label] for label in front), strict=True), color="0.6", linewidth=1, zorder=1)
        for label in labels:
            _point(axis, study, label, clock)
        axis.set(xlabel=f"cost ({clock.unit} per step)", ylabel="mean PSNR (dB)")
        if places[front[0]][0] * WIDE < max(cost for cost, _ in places.values()):
            axis.set(xscale="log", xlabel=f"cost ({clock.unit} per step, logarithmic)")
            axis.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
        axis.margins(x=0.25, y=0.12)  # room for the names
        if len(labels) > direct.MOST or not direct.beside_points(figure, axis, places):
            handles, _ = axis.get_legend_handles_labels()
            names = [f"{number} {one_line(label)}" for number, label in enumerate(places, 1)]
            figure.legend(handles, names, loc="outside right center", frameon=False, ncols=columns)
            direct.numbers(figure, axis, list(places.values()))  # colours alone are not told apart in grey
        return save(figure, path)


def _point(axis: Any, study: Study, label: str, clock: Clock) -> None:
    """Draw a strategy with its range of costs, and the interval (with few seeds: the range) of its quality."""
    cost, table = study.frames.cost, study.measures
    times = 1e3 * cost[cost["label"] == label][clock.column].dropna()
    scores = table[table["label"] == label]["average"].dropna()
    found, mean = seed_interval(scores), float(times.mean())
    low, high = (found.low, found.high) if len(scores) >= WHISKERS else (scores.min(), scores.max())
    axis.errorbar(
        [mean], [found.estimate], yerr=[[found.estimate - low], [high - found.estimate]],
        xerr=[[mean - times.min()], [times.max() - mean]], elinewidth=0.8, markersize=7, label=legend_name(label),
        zorder=2, **points(looks(study.frames.labels)[label]),
    )  # fmt: skip


def undominated(points: dict[str, tuple[float, float]]) -> list[str]:
    """Return the names of the points (cost, quality) that no other point beats in both, cheapest first."""
    order = sorted(points, key=lambda name: (points[name][0], -points[name][1]))
    front: list[str] = []
    for name in order:
        if not front or points[name][1] > points[front[-1]][1]:
            front.append(name)
    return front
