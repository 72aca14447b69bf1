"""Gradient conflict over training: heat-maps of cosines, and curves of conflict rate and harm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.study import Study
from ..tables.conflict import conflict_rate, harm, mean_cosines
from .style import BANDS, house, legend_below, legend_name, looks, panels, save

if TYPE_CHECKING:
    import pandas as pd

WINDOWS = 3
ONE_BLOCK = 6
"""Maximum number of strategies below one another. More strategies are drawn in two blocks side by side."""
CELL, LARGEST, NAMES = 0.42, 3.0, 0.7
"""Sizes in inches: a cell of a small panel, the side of the largest panel, and the names below a panel."""
FONT, READABLE = 24, 5
"""Font size in points of a number in a cell of one inch, and the smallest size that is printed."""
SMOOTH = 5
"""Window of the running means in logged steps. The cosines of a single step are mostly noise."""


def conflicting(study: Study) -> list[str]:
    """Return the strategies that logged at least two rows at once."""
    frame = study.frames.conflict
    found = set(frame[frame["row_a"] != frame["row_b"]]["label"])
    return [label for label in study.labels if label in found]


def conflict_heatmaps(study: Study, path: Path) -> list[Path]:
    """Draw cosines between the rows' gradients, mean over the logged steps of a window and over seeds.

    There is one line of panels per strategy and one panel per window of steps. The windows are those of the study,
    or training cut into three.
    """
    labels, frame = conflicting(study), study.frames.conflict
    if not labels:
        return []
    windows = study.conflict_at or _windows(sorted(frame["step"].unique()))
    names = {label: _names(study, frame[frame["label"] == label]) for label in labels}
    are_alike = all(own == names[labels[0]] for own in names.values())
    blocks = 1 if len(labels) <= ONE_BLOCK else 2
    lines, side = -(-len(labels) // blocks), min(0.3 + CELL * (max(map(len, names.values())) - 1), LARGEST)
    height = side + (0.0 if are_alike else NAMES)
    width = blocks * (side * len(windows) + 1.4)
    with house() as plots:
        figure, axes = plots.subplots(
            lines, blocks * len(windows), figsize=(width + 0.9, height * lines + 1.0), squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for place, label in enumerate(labels):
            block, line = divmod(place, lines)
            own = axes[line, block * len(windows) : (block + 1) * len(windows)]
            has_names = line == lines - 1 or place == len(labels) - 1 or not are_alike
            own_frame = frame[frame["label"] == label]
            _line(own, own_frame, windows, names[label], label, is_first=line == 0, has_names=has_names, side=side)
        for spare in axes[len(labels) - lines * (blocks - 1) :, (blocks - 1) * len(windows) :].flat:
            spare.set_visible(False)
        scale = figure.colorbar(axes[0, 0].images[0], ax=axes, label="cosine", aspect=30, shrink=0.7)
        scale.ax.axhline(0.0, color="black", linewidth=0.8)
        return save(figure, path)


def _names(study: Study, frame: pd.DataFrame) -> list[str]:
    """Return the rows in the order of the tasks, followed by the rows of a memory."""
    found = set(frame["row_a"]) | set(frame["row_b"])
    return [task for task in study.frames.tasks if task in found] + sorted(found - set(study.frames.tasks))


def _line(
    axes: Any, frame: pd.DataFrame, windows: Sequence[tuple[int, int]], names: list[str], label: str, *,
    is_first: bool, has_names: bool, side: float,
) -> None:  # fmt: skip
    font = min(8, int(FONT * side / (len(names) - 1)))
    for axis, (first, last) in zip(axes, windows, strict=True):
        _heat(axis, mean_cosines(frame[frame["step"].between(first, last)]).reindex(names, columns=names), font)
        if is_first:
            axis.set_title(f"step {first}" if first == last else f"steps {first}–{last}", fontsize=9)
        if has_names:
            axis.set_xticks(range(len(names) - 1), names[:-1], rotation=40, ha="right", rotation_mode="anchor")
    axes[0].set_yticks(range(len(names) - 1), names[1:])
    axes[0].set_ylabel(label, fontsize=9, weight="bold")


def _windows(steps: Sequence[int]) -> list[tuple[int, int]]:
    parts = [part for part in np.array_split(np.asarray(steps), min(WINDOWS, len(steps))) if len(part)]
    return [(int(part[0]), int(part[-1])) for part in parts]


def _heat(axis: Any, cosines: pd.DataFrame, font: int) -> None:
    """Draw the lower triangle, which shows each pair once. Numbers are printed if they are large enough to read."""
    values = cosines.to_numpy(dtype=float)[1:, :-1]
    values = np.where(np.tri(len(values), dtype=bool), values, np.nan)
    axis.imshow(values, vmin=-1, vmax=1, cmap="PuOr")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and font >= READABLE:
            shown = f"{round(float(value), 2) + 0.0:.2f}"  # no -0.00
            colour = "white" if abs(value) > 0.6 else "black"
            weight = "bold" if shown.startswith("-") else "normal"
            axis.text(column, row, shown, ha="center", va="center", fontsize=font, color=colour, weight=weight)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def conflict_curves(study: Study, path: Path) -> list[Path]:
    """Draw the shares of conflicting pairs and of rows that the last step harmed, as running means over steps."""
    labels = conflicting(study)
    if not labels:
        return []
    series = {
        "pairs with cosine < 0": conflict_rate(study.frames.conflict),
        "rows harmed by the step": harm(study.frames.conflict),
    }
    look = looks(study.frames.labels)
    with house() as plots:
        figure, axes = panels(plots, len(series), width=4.2)
        for axis, (title, values) in zip(axes, series.items(), strict=True):
            for label in labels:
                if label in values.columns.get_level_values("label"):
                    own = values.loc[:, values.columns.get_level_values("label") == label]
                    _curve(axis, own, label, look[label], with_band=len(labels) <= BANDS)
            axis.set(title=title, xlabel="step")
            _limits(axis, is_crowded=len(labels) > BANDS)
        axes[0].set_ylabel("share")
        legend_below(figure, axes[0])
        return save(figure, path)


def _limits(axis: Any, is_crowded: bool) -> None:
    """Show the whole range of a share, or only the range of the curves if there are many close to each other."""
    bottom, top = axis.get_ylim() if is_crowded else (-0.03, 1.03)
    axis.set_ylim(max(bottom, -0.03), min(top, 1.03))


def _curve(axis: Any, values: pd.DataFrame, label: str, look: dict[str, Any], with_band: bool) -> None:
    smooth = values.dropna(how="all").rolling(SMOOTH, min_periods=1, center=True).mean()  # one column per seed
    axis.plot(smooth.index, smooth.mean(axis=1), label=legend_name(label), linewidth=1.6, **look)
    if with_band and smooth.shape[1] > 1:
        axis.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=look["color"], alpha=0.13, lw=0)
