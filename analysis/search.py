"""Figures of a search: history of the trials, Pareto front of two objectives, and importance of the parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .figures.style import OKABE_ITO, house, panels, save

Row = Mapping[str, Any]


def leave_search_figures(
    trials: Sequence[Row],
    directions: Mapping[str, str],
    importances: Mapping[str, Mapping[str, float]],
    folder: Path,
) -> list[Path]:
    """Write history, front and importances (.png, .pdf, .svg), each if there is data for it.

    `trials`: rows of trials.csv. `directions`: objective -> maximize or minimize. `importances`: objective ->
    parameter -> share.
    """
    complete = [row for row in trials if row["state"] == "complete"]
    files = history(complete, directions, folder / "history") if complete else []
    if complete and len(directions) > 1:
        files += front(complete, directions, folder / "front")
    return files + (importance_bars(importances, folder / "importances") if importances else [])


def history(trials: Sequence[Row], directions: Mapping[str, str], path: Path) -> list[Path]:
    """Draw one panel per objective: the value of every complete trial over its number, and the best value so far."""
    ordered = sorted(trials, key=lambda row: row["trial"])
    numbers = [row["trial"] for row in ordered]
    with house() as plots:
        figure, axes = panels(plots, len(directions))
        for axis, (name, direction) in zip(axes, directions.items(), strict=True):
            values = [float(row[name]) for row in ordered]
            axis.plot(numbers, values, "o", color=OKABE_ITO[0], markersize=3.5)
            axis.step(numbers, best_so_far(values, direction), where="post", color=OKABE_ITO[1], linewidth=1.4)
            axis.set(xlabel="trial", ylabel=f"{name} (validation)", title=f"{name}, {direction}")
        return save(figure, path)


def best_so_far(values: Sequence[float], direction: str) -> list[float]:
    """Return the best of the first 1, 2, ... values."""
    return list(itertools.accumulate(values, max if direction == "maximize" else min))


def front(trials: Sequence[Row], directions: Mapping[str, str], path: Path) -> list[Path]:
    """Draw every complete trial by the first two objectives. A line joins the trials that no other dominates."""
    names = list(directions)[:2]
    points = np.array([[float(row[name]) for name in names] for row in trials])  # [trials, 2]
    best = undominated(points, [directions[name] for name in names])
    best = best[np.argsort(points[best, 0])]
    with house() as plots:
        figure, axis = plots.subplots(figsize=(4.6, 3.3), layout="constrained")
        axis.plot(*points.T, "o", color="0.6", markersize=3.5)
        axis.plot(*points[best].T, "o-", color=OKABE_ITO[1], markersize=5, linewidth=1)
        for place in best:
            axis.annotate(f" {trials[place]['trial']}", points[place], fontsize=7)
        axis.set(xlabel=f"{names[0]}, {directions[names[0]]}", ylabel=f"{names[1]}, {directions[names[1]]}")
        axis.margins(0.1)
        return save(figure, path)


def undominated(points: np.ndarray, directions: Sequence[str]) -> np.ndarray:
    """Return the indices of the Pareto-optimal points of [trials, objectives].

    A point is dominated if another one is at least as good in all objectives and better in at least one.
    """
    losses = points * np.array([-1.0 if direction == "maximize" else 1.0 for direction in directions])
    beaten = [np.any(np.all(losses <= own, axis=1) & np.any(losses < own, axis=1)) for own in losses]
    return np.flatnonzero(~np.array(beaten))


def importance_bars(importances: Mapping[str, Mapping[str, float]], path: Path) -> list[Path]:
    """Draw one panel per objective with one bar per parameter: its share in what distinguishes the better trials."""
    names = sorted({name for shares in importances.values() for name in shares})
    with house() as plots:
        figure, axes = panels(plots, len(importances), height=0.9 + 0.26 * len(names), width=3.6)
        for place, (axis, (objective, shares)) in enumerate(zip(axes, importances.items(), strict=True)):
            axis.barh(range(len(names)), [shares.get(name, 0.0) for name in names], 0.7, color=OKABE_ITO[0])
            axis.set(title=objective, xlabel="share (PED-ANOVA)", xlim=(0, 1), yticks=range(len(names)))
            axis.set_yticklabels([name.removeprefix("strategy.") for name in names] if place == 0 else [])
            axis.invert_yaxis()
        return save(figure, path)
