"""Figures of a search: history, objectives against parameters, Pareto front, and importance of the parameters."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .figures.style import OKABE_ITO, house, legend_below, panels, save, title

Row = Mapping[str, Any]
SIDES = ("xlabel", "ylabel")


UNITS = {"mean_psnr": "dB", "worst_psnr": "dB", "forgetting_db": "dB", "seconds_per_step": "s"}
"""Objective -> its unit."""
WIDE = 30
"""Ratio of the largest to the smallest value of a parameter above which its scale is logarithmic."""
PANELS = 24
"""Maximum number of panels of objectives against parameters."""


def leave_search_figures(
    trials: Sequence[Row],
    directions: Mapping[str, str],
    importances: Mapping[str, Mapping[str, float]],
    folder: Path,
    parameters: Sequence[str] = (),
) -> list[Path]:
    """Write history, parameters, front and importances (.png, .pdf, .svg), each if there is data for it.

    `trials`: rows of trials.csv. `directions`: objective -> maximize or minimize. `importances`: objective ->
    parameter -> share. `parameters`: names of the columns of `trials` that were searched.
    """
    complete = [row for row in trials if row["state"] == "complete"]
    files = history(complete, directions, folder / "history") if complete else []
    if complete:
        files += against_parameters(complete, directions, parameters, folder / "parameters")
    if complete and len(directions) > 1:
        files += front(complete, directions, folder / "front")
    return files + (importance_bars(importances, folder / "importances") if importances else [])


def _with_unit(objective: str) -> str:
    return f"{objective} ({UNITS[objective]})" if objective in UNITS else objective


def history(trials: Sequence[Row], directions: Mapping[str, str], path: Path) -> list[Path]:
    """Draw one panel per objective: the value of every complete trial over its number, and the best value so far."""
    ordered = sorted(trials, key=lambda row: row["trial"])
    numbers = [row["trial"] for row in ordered]
    with house() as plots:
        figure, axes = panels(plots, len(directions))
        for axis, (name, direction) in zip(axes, directions.items(), strict=True):
            values = [float(row[name]) for row in ordered]
            axis.plot(numbers, values, "o", color=OKABE_ITO[0], markersize=3.5, label="trial")
            best = best_so_far(values, direction)
            axis.step(numbers, best, where="post", color=OKABE_ITO[1], linewidth=1.4, label="best so far")
            axis.set(xlabel="trial", ylabel=f"{_with_unit(name)}, validation", title=f"{name}, {direction}")
        legend_below(figure, axes[0])
        return save(figure, path)


def against_parameters(
    trials: Sequence[Row], directions: Mapping[str, str], parameters: Sequence[str], path: Path
) -> list[Path]:
    """Draw one panel per objective and parameter: every complete trial that has the parameter. The best is framed."""
    shown = [name for name in parameters if any(row.get(name, "") != "" for row in trials)]
    shown = shown[: max(1, PANELS // len(directions))]
    if not shown:
        return []
    with house() as plots:
        figure, axes = panels(plots, len(shown) * len(directions), width=2.8, height=2.4, columns=4)
        pairs = itertools.product(directions.items(), shown)
        for axis, ((objective, direction), name) in zip(axes, pairs, strict=True):
            own = [row for row in trials if row.get(name, "") != ""]
            at = _places(axis, [row[name] for row in own])
            values = [float(row[objective]) for row in own]
            axis.plot(at, values, "o", color=OKABE_ITO[0], markersize=3.5)
            best = values.index(max(values) if direction == "maximize" else min(values))
            axis.plot(at[best], values[best], "s", markersize=8, fillstyle="none", color=OKABE_ITO[1])
            axis.set(xlabel=title(name.removeprefix("strategy."), 2.6), ylabel=_with_unit(objective))
        return save(figure, path)


def _places(axis: Any, values: Sequence[Any]) -> list[float]:
    """Return the values of a parameter as places on the x axis. Values that are not numbers get one place each."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [float(value) for value in values]
        if min(numbers) > 0 and max(numbers) > WIDE * min(numbers):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter("")
        return numbers
    named = [in_words(value) for value in values]
    names = list(dict.fromkeys(named))
    short = [title(name, 1.2, lines=1) for name in names]
    are_distinct = len(set(short)) == len(short)
    axis.set_xticks(range(len(names)), short if are_distinct else names, rotation=25, ha="right")
    axis.set_xlim(-0.5, len(names) - 0.5)
    return [float(names.index(name)) for name in named]


def in_words(value: Any) -> str:
    """Return the value of a choice as text. A mapping, which trials hold as JSON, becomes `low 1, high 2`."""
    if value is None:
        return "null"
    with suppress(ValueError):
        if isinstance(value, str) and isinstance(found := json.loads(value), dict):
            return ", ".join(f"{key} {one}" for key, one in found.items())
    return str(value)


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
        axis.set(**{side: f"{_with_unit(name)}, {directions[name]}" for side, name in zip(SIDES, names, strict=True)})
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
    """Draw one panel per objective with one bar per parameter: its share in the variance of the objective."""
    names = sorted({name for shares in importances.values() for name in shares})
    with house() as plots:
        figure, axes = panels(plots, len(importances), height=0.9 + 0.26 * len(names), width=3.6)
        for place, (axis, (objective, shares)) in enumerate(zip(axes, importances.items(), strict=True)):
            axis.barh(range(len(names)), [shares.get(name, 0.0) for name in names], 0.7, color=OKABE_ITO[0])
            axis.set(title=objective, xlabel="share of variance (fANOVA)", xlim=(0, 1), yticks=range(len(names)))
            axis.set_yticklabels([name.removeprefix("strategy.") for name in names] if place == 0 else [])
            axis.invert_yaxis()
        return save(figure, path)
