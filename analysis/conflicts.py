"""Gradient conflict over training: heat-maps of cosines, and curves of conflict rate and harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .conflict_table import mean_cosines
from .study import Study
from .style import house, legend_below, looks, panels, save

if TYPE_CHECKING:
    import pandas as pd

WINDOWS = 3
SMOOTH = 5
"""Logged steps that a running mean takes: one step's cosines are mostly noise."""


def conflicting(study: Study) -> list[str]:
    """The strategies that logged two rows at once."""
    frame = study.frames.conflict
    found = set(frame[frame["row_a"] != frame["row_b"]]["label"])
    return [label for label in study.labels if label in found]


def conflict_heatmaps(study: Study, path: Path, steps: Sequence[tuple[int, int]] | None = None) -> list[Path]:
    """Cosines between the rows' gradients, mean over the logged steps of a window and over seeds; a row a strategy.

    `steps`: windows (first step, last step); None: training cut in three.
    """
    labels, frame = conflicting(study), study.frames.conflict
    if not labels:
        return []
    windows = steps or _windows(sorted(frame["step"].unique()))
    rows = max(len(mean_cosines(frame[frame["label"] == label])) for label in labels)
    side = 0.7 + 0.5 * rows
    with house() as plots:
        figure, axes = plots.subplots(
            len(labels), len(windows), figsize=(side * len(windows) + 1.2, side * len(labels)),
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for line, label in zip(axes, labels, strict=True):
            for axis, (first, last) in zip(line, windows, strict=True):
                own = frame[(frame["label"] == label) & frame["step"].between(first, last)]
                image = _heat(axis, mean_cosines(own))
                when = f"step {first}" if first == last else f"steps {first}–{last}"
                axis.set_title(f"{label}, {when}", fontsize=9)
        figure.colorbar(image, ax=axes, label="cosine", shrink=min(1.0, 2.4 / (side * len(labels)) + 0.3))
        return save(figure, path)


def _windows(steps: Sequence[int]) -> list[tuple[int, int]]:
    parts = [part for part in np.array_split(np.asarray(steps), min(WINDOWS, len(steps))) if len(part)]
    return [(int(part[0]), int(part[-1])) for part in parts]


def _heat(axis: Any, cosines: pd.DataFrame) -> Any:
    values = cosines.to_numpy(dtype=float)
    image = axis.imshow(values, vmin=-1, vmax=1, cmap="PuOr")
    for (row, column), value in np.ndenumerate(values):
        if row != column and np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            weight = "bold" if value < 0 else "normal"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour, weight=weight)
    names = list(cosines.index)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0)
    return image


def conflict_curves(study: Study, path: Path) -> list[Path]:
    """Share of conflicting pairs, and share of rows that the last real step made worse; running means over steps."""
    labels = conflicting(study)
    if not labels:
        return []
    series = {"pairs with cosine < 0": conflict_rate(study.frames.conflict), "rows harmed by the step": harm(study)}
    look = looks(study.frames.labels)
    with house() as plots:
        figure, axes = panels(plots, len(series), width=4.2)
        for axis, (title, values) in zip(axes, series.items(), strict=True):
            for label in labels:
                if label in values.columns.get_level_values("label"):
                    _curve(axis, values[label], label, look[label])
            axis.set(title=title, xlabel="step", ylim=(-0.03, 1.03))
        axes[0].set_ylabel("share")
        legend_below(figure, axes[0])
        return save(figure, path)


def _curve(axis: Any, values: pd.DataFrame, label: str, look: dict[str, Any]) -> None:
    smooth = values.dropna(how="all").rolling(SMOOTH, min_periods=1, center=True).mean()  # a column a seed
    axis.plot(smooth.index, smooth.mean(axis=1), label=label, linewidth=1.6, **look)
    if smooth.shape[1] > 1:
        axis.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=look["color"], alpha=0.13, lw=0)


def conflict_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Index step, columns (label, seed): share of pairs with a cosine below 0; pairs with a zero row are left out."""
    pairs = frame[(frame["row_a"] != frame["row_b"]) & frame["cosine"].notna()]
    shares = (pairs["cosine"] < 0).groupby([pairs["label"], pairs["seed"], pairs["step"]], sort=False).mean()
    return shares.unstack(["label", "seed"]).sort_index()


def harm(study: Study) -> pd.DataFrame:
    """Index step, columns (label, seed): share of rows whose next batch the last weight change made worse."""
    frame = study.frames.conflict
    own = frame[(frame["row_a"] == frame["row_b"]) & frame["displacement"].notna()]
    shares = (own["displacement"] > 0).groupby([own["label"], own["seed"], own["step"]], sort=False).mean()
    return shares.unstack(["label", "seed"]).sort_index()
