"""Task weights over training, of the weighting and of the surgery of a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.study import Study
from .style import DASHES, TASK_GREYS, house, legend_below, panels, save

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"weight": "loss weight", "surgery": "row weight in the update"}
SMOOTH = 15
"""The window of a running mean is 1 / SMOOTH of the run."""
STEADY = 1e-6
"""A weight with a smaller relative change is constant, and is not drawn."""


def weight_trajectories(study: Study, path: Path) -> list[Path]:
    """Draw task weights over steps, one panel per strategy that changes them.

    The lines are running means, because some weights jump at every step.
    """
    tables = trajectories(study)
    if not tables:
        return []
    found = {row for table in tables.values() for row in table.index.unique("row")}
    rows = [task for task in study.frames.tasks if task in found] + sorted(found - set(study.frames.tasks))
    with house() as plots:
        figure, axes = panels(plots, len(tables), columns=3)
        for axis, ((label, kind), table) in zip(axes, tables.items(), strict=True):
            for place, row in enumerate(rows):
                _line(axis, table, row, TASK_GREYS[place % len(TASK_GREYS)], DASHES[place % len(DASHES)])
            axis.set(title=f"{label}: {KINDS[kind]}", xlabel="step")
        axes[0].set_ylabel("weight")
        legend_below(figure, axes[0])
        return save(figure, path)


def trajectories(study: Study) -> dict[tuple[str, str], pd.DataFrame]:
    """Return (strategy, kind) -> table of index (row, step), one column per seed. Constant weights are left out."""
    frame = study.frames.logged
    if frame.empty:  # pandas cannot split an empty column
        return {}
    split = frame["metric"].str.partition("/")
    frame = frame.assign(kind=split[0], row=split[2])
    found = {}
    for label in study.labels:
        for kind in KINDS:
            own = frame[(frame["label"] == label) & (frame["kind"] == kind)]
            if len(own) and own["row"].nunique() > 1 and _moves(own):
                found[label, kind] = own.pivot_table(index=["row", "step"], columns="seed", values="value")
    return found


def _moves(frame: pd.DataFrame) -> bool:
    ranges = frame.groupby(["row", "seed"])["value"].agg(["min", "max"])
    return bool(((ranges["max"] - ranges["min"]) > STEADY * ranges["max"].abs()).any())


def _line(axis: Any, table: pd.DataFrame, row: str, colour: str, dash: Any) -> None:
    if row not in table.index.unique("row"):
        axis.plot([], [], label=row, color=colour, linestyle=dash)
        return
    own = table[table.index.get_level_values("row") == row].droplevel("row")  # one column per seed
    smooth = own.rolling(max(1, len(own) // SMOOTH), min_periods=1, center=True).mean()
    axis.plot(smooth.index, smooth.mean(axis=1), label=row, color=colour, linestyle=dash, linewidth=1.5)
    if own.shape[1] > 1:
        axis.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=colour, alpha=0.13, lw=0)
    else:
        axis.plot(own.index, own.mean(axis=1), color=colour, linewidth=0.5, alpha=0.35)
