"""R-matrix heat-maps: the score of every task after every stage, one panel per strategy."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmtl_ir.measures.scale import PSNR, Scale

from ..data.study import Study
from .style import house, panels, save, title

if TYPE_CHECKING:
    import pandas as pd

NARROW = 8
"""Number of letters of a task's name that fit above a column."""
WIDEST, TALLEST = 14.5, 24.0
"""Maximum width of a line of panels in inches, and height of all lines above which cells are small, without numbers."""
CELL, SMALL = (0.72, 0.42), (0.15, 0.15)
"""Width and height of a cell with a number and without one, in inches."""
MOST = 24
"""Maximum number of panels with small cells."""
LETTERS = 18
"""Maximum number of letters of a stage."""


def staged(study: Study) -> list[str]:
    """Return the strategies that train in more than one stage."""
    counts = study.frames.matrices.groupby("label")["stage"].nunique()
    return [label for label in study.labels if counts.get(label, 0) > 1]


def same_stages(frame: pd.DataFrame, label: str) -> dict[str, pd.DataFrame]:
    """Return title -> matrices of the seeds with the same stages. The order of stages may differ between seeds."""
    own = frame[frame["label"] == label]
    seeds_of: dict[tuple[str, ...], list[Any]] = {}
    for seed, one in own.drop_duplicates(["seed", "stage"]).sort_values("stage").groupby("seed"):
        seeds_of.setdefault(tuple(one["stage_name"]), []).append(seed)
    if len(seeds_of) == 1:
        return {label: own}
    return {f"{label}, seed {', '.join(map(str, seeds))}": own[own["seed"].isin(seeds)] for seeds in seeds_of.values()}


def input_scores(study: Study, scale: Scale = PSNR) -> pd.Series:
    """Return task -> score of the degraded input, mean over seeds. NaN for a task that no run scored by this metric."""
    by_seed = study.scores.groupby(["task", "seed"], sort=False)[f"{scale.name}_input"].first()
    return by_seed.groupby("task", sort=False).mean()


def matrix_heatmaps(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw R (mean over seeds). Colour is the gain over the degraded input, and a frame marks a task's own stage.

    Scores below that of the degraded input are bold and orange.
    """
    found = {name: own for label in staged(study) for name, own in same_stages(study.frames.matrices, label).items()}
    if not found:
        return []
    tasks = study.frames.tasks
    floor, column = input_scores(study, scale)[tasks].to_numpy(), scale.name
    tables = {
        name: own.pivot_table(index="stage", columns="task", values=column, dropna=False)[tasks]
        for name, own in found.items()
        if own[column].notna().any()
    }
    if not tables:
        return []
    gains = {name: scale.sign * (table.to_numpy() - floor) for name, table in tables.items()}
    every = np.concatenate(list(gains.values()))
    most = float(np.nanmax(np.abs(every))) or 1.0
    limits = {"vmin": -most, "vmax": most, "cmap": "PuOr"}  # the gain has a sign: white is 0
    stages = max(len(table) for table in tables.values())
    (width, height), columns = _size(len(tasks), stages, CELL)
    is_small = height * -(-len(tables) // columns) > TALLEST
    if is_small:
        (width, height), columns = _size(len(tasks), stages, SMALL)
    shown = list(tables)[:MOST] if is_small else list(tables)
    with house() as plots:
        figure, axes = panels(plots, len(shown), width, height, columns)
        for axis, name in zip(axes, shown, strict=True):
            image = axis.imshow(gains[name], aspect="auto", **limits)
            if not is_small:
                _annotate(axis, tables[name].to_numpy(), gains[name], most, max(scale.digits - 1, 1))
            _name(axis, name, found[name], tasks, width, is_small)
        if len(shown) < len(tables):
            figure.suptitle(f"the first {len(shown)} of {len(tables)} matrices", fontsize=9, color="0.35")
        label = f"gain over input ({scale.unit or scale.label})"
        figure.colorbar(image, ax=axes, label=label, shrink=min(0.9, 3.0 / figure.get_size_inches()[1]))
        return save(figure, path)


def _size(tasks: int, stages: int, cell: tuple[float, float]) -> tuple[tuple[float, float], int]:
    """Return width and height of a panel in inches, and the number of panels side by side."""
    width, height = 1.1 + cell[0] * tasks, 0.9 + cell[1] * stages
    return (width, height), max(1, int(WIDEST / width))


def _annotate(axis: Any, scores: np.ndarray, gains: np.ndarray, most: float, digits: int) -> None:
    for (row, column), score in np.ndenumerate(scores):
        gain = gains[row, column]
        colour, weight = "white" if abs(gain) > 0.6 * most else "black", "bold" if gain < 0 else "normal"
        text = f"{score:.{digits}f}" if np.isfinite(score) else "–"
        axis.text(column, row, text, ha="center", va="center", fontsize=9, color=colour, weight=weight)


def _name(axis: Any, name: str, own: Any, tasks: list[str], width: float, is_small: bool) -> None:
    from matplotlib.patches import Rectangle

    stages = own.drop_duplicates("stage").sort_values("stage")["stage_name"]
    names = [f"{number}: {textwrap.shorten(one, LETTERS, placeholder='…')}" for number, one in enumerate(stages, 1)]
    font = {"fontsize": 6} if is_small else {}
    axis.set_yticks(range(len(names)), names, **font)
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    if is_small:
        axis.set_xticks(range(len(tasks)), tasks, rotation=90, **font)
    else:
        axis.set_xticks(range(len(tasks)), tasks, **(turned if max(map(len, tasks)) > NARROW else {}))
    axis.set(title=title(name, width), xlabel="scored on")
    axis.tick_params(length=0)
    for column, task in enumerate(tasks):
        row = int(own[own["task"] == task]["own_stage"].iloc[0])
        if row >= 0:
            corner, thin = (column - 0.46, row - 0.45), 0.6 if is_small else 1.0
            axis.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor="white", linewidth=3 * thin))
            axis.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor="#D55E00", linewidth=1.5 * thin))
