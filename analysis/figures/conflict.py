"""Gradient conflict over training: heat-maps of cosines, and curves of conflict rate and harm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.study import Study
from ..tables.conflict import conflict_rate, harm, mean_cosines
from .direct import at_ends
from .style import BANDS, house, legend_below, legend_name, looks, not_measured, panels, save, sparse

if TYPE_CHECKING:
    import pandas as pd

WINDOWS = 3
ONE_BLOCK = 6
"""Maximum number of strategies below one another. More strategies are drawn in two blocks side by side."""
CELL, LARGEST, SMALLEST, NAMES, HIGHEST = 0.42, 3.0, 0.8, 0.8, 22.0
"""Sizes in inches: a cell of a small panel, the sides of the largest and the smallest panel, the names below a panel,
and the height of the figure from which on every strategy has a single panel, over the whole training."""
FONT, READABLE = 24, 5
"""Font size in points of a number in a cell of one inch, and the smallest size that is printed."""
NOISE = 0.5
"""Both shares if gradients are nothing but noise: the sign of each product is then that of a fair coin."""
SMOOTH = 5
"""Window of the running means in logged steps. The cosines of a single step are mostly noise."""


def conflicting(study: Study) -> list[str]:
    """Return the strategies that logged at least two rows at once."""
    frame = study.frames.conflict
    found = set(frame[(frame["row_a"] != frame["row_b"]) & frame["cosine"].notna()]["label"])
    return [label for label in study.labels if label in found]


def conflict_heatmaps(study: Study, path: Path) -> list[Path]:
    """Draw cosines between the rows' gradients, mean over the logged steps of a window and over seeds.

    There is one line of panels per strategy and one panel per window of steps. The windows are those of the study,
    or training cut into three.
    """
    labels, frame = conflicting(study), study.frames.conflict
    if not labels:
        return []
    names = {label: _names(study, frame[frame["label"] == label]) for label in labels}
    are_alike, most = all(own == names[labels[0]] for own in names.values()), max(map(len, names.values()))
    side = min(0.3 + CELL * (most - 1), LARGEST)
    margin = 0.25 if are_alike else NAMES
    blocks = 1 if len(labels) <= ONE_BLOCK else 2
    windows = study.conflict_at or _windows(sorted(frame["step"].unique()))
    if not study.conflict_at and (side + margin) * -(-len(labels) // blocks) > HIGHEST:
        windows = windows[:1] and [(windows[0][0], windows[-1][1])]  # too many strategies for more than one panel each
        blocks = max(2, math.ceil(math.sqrt(len(labels))))
    lines = -(-len(labels) // blocks)
    side = min(side, max(HIGHEST / lines - margin, SMALLEST))
    height = side + margin
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
            _line(
                own, own_frame, windows, names[label], label, most, is_first=line == 0, has_names=has_names, side=side
            )
        for spare in axes[len(labels) - lines * (blocks - 1) :, (blocks - 1) * len(windows) :].flat:
            spare.set_visible(False)
        scale = figure.colorbar(axes[0, 0].images[0], ax=axes, label="cosine", aspect=30, shrink=0.7)
        scale.ax.axhline(0.0, color="black", linewidth=0.8)
        return save(figure, path)


def _names(study: Study, frame: pd.DataFrame) -> list[str]:
    """Return the rows that were trained with another one: in the order of the tasks, then the rows of a memory."""
    pairs = frame[(frame["row_a"] != frame["row_b"]) & frame["cosine"].notna()]
    found = set(pairs["row_a"]) | set(pairs["row_b"])
    return [task for task in study.frames.tasks if task in found] + sorted(found - set(study.frames.tasks))


def _line(
    axes: Any, frame: pd.DataFrame, windows: Sequence[tuple[int, int]], names: list[str], label: str, most: int, *,
    is_first: bool, has_names: bool, side: float,
) -> None:  # fmt: skip
    """Draw the panels of a strategy. Cells are as large as those of the strategy with `most` rows."""
    font = min(8, int(FONT * side / (most - 1)))
    for axis, (first, last) in zip(axes, windows, strict=True):
        _heat(axis, mean_cosines(frame[frame["step"].between(first, last)]).reindex(names, columns=names), font)
        axis.set(xlim=(-0.5, most - 1.5), ylim=(len(names) - 1.5, len(names) - most - 0.5))
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
    """Draw the lower triangle, which shows each pair once. Numbers are printed if they are large enough to read.

    Pairs that were not measured are hatched.
    """
    values = cosines.to_numpy(dtype=float)[1:, :-1]
    shown_once = np.tri(len(values), dtype=bool)
    for row, column in np.argwhere(shown_once & ~np.isfinite(values)):
        axis.add_patch(not_measured(column, row))
    values = np.where(shown_once, values, np.nan)
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
        for axis, (name, values) in zip(axes, series.items(), strict=True):
            ends = {}
            for label in labels:
                if label in values.columns.get_level_values("label"):
                    own = values.loc[:, values.columns.get_level_values("label") == label]
                    place = list(look).index(label)
                    ends[label] = _curve(axis, own, label, look[label], place, with_band=len(labels) <= BANDS)
            axis.axhline(NOISE, color="0.4", linewidth=1, linestyle=":", label="noise alone")
            axis.set(title=name, xlabel="step")
            _limits(axis, is_crowded=len(labels) > BANDS)
            if axis is axes[-1]:
                at_ends(axis, ends, look)
        axes[0].set_ylabel("share")
        legend_below(figure, axes[0], last="noise alone")
        return save(figure, path)


def without_rates(study: Study) -> str:
    """Return a sentence per reason on the strategies that have no conflict rate. Empty if all have one."""
    known, frame = conflicting(study), study.frames.conflict
    logged = set(frame["label"])
    lacking = [label for label in study.labels if label not in known]
    alone = [label for label in lacking if label in logged]
    silent = [label for label in lacking if label not in logged]
    said = [f"Never two rows in a step, so no pair: {', '.join(alone)}."] if alone else []
    return " ".join(said + ([f"No conflict was logged of: {', '.join(silent)}."] if silent else []))


def _limits(axis: Any, is_crowded: bool) -> None:
    """Show the whole range of a share, or only the range of the curves if there are many close to each other."""
    bottom, top = axis.get_ylim() if is_crowded else (-0.03, 1.03)
    axis.set_ylim(max(bottom, -0.03), min(top, 1.03))


def _curve(
    axis: Any, values: pd.DataFrame, label: str, look: dict[str, Any], place: int, with_band: bool
) -> tuple[float, float]:
    """Draw the running mean of a strategy and return its last point. `values`: one column per seed."""
    smooth = values.dropna(how="all").rolling(SMOOTH, min_periods=1, center=True).mean()
    mean, every = smooth.mean(axis=1), sparse(len(smooth), place)
    axis.plot(mean.index, mean, label=legend_name(label), linewidth=1.6, markersize=4.5, markevery=every, **look)
    if with_band and smooth.shape[1] > 1:
        axis.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=look["color"], alpha=0.13, lw=0)
    return float(mean.index[-1]), float(mean.iloc[-1])
