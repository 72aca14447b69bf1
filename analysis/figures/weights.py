"""Task weights over training, of the weighting and of the surgery of a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.study import Study
from .style import DASHES, TASK_GREYS, house, leftmost, legend_below, panels, save, title

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"weight": "loss weight", "surgery": "row weight in the update"}
SMOOTH = 15
"""The window of a running mean is 1 / SMOOTH of the run."""
WIDTH = 3.4
"""Width of a panel in inches."""
SIGMAS = 4
"""Standard errors that two halves of a run may differ by if only counts vary."""
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
        figure, axes = panels(plots, len(tables), width=WIDTH, columns=3)
        for axis, ((label, kind), table) in zip(axes, tables.items(), strict=True):
            for place, row in enumerate(rows):
                _line(axis, table, row, TASK_GREYS[place % len(TASK_GREYS)], DASHES[place % len(DASHES)])
            axis.set(title=title(f"{label}: {KINDS[kind]}", WIDTH), xlabel="step")
        for axis in leftmost(axes):
            axis.set_ylabel("weight")
        legend_below(figure, axes[0])
        return save(figure, path)


def trajectories(study: Study) -> dict[tuple[str, str], pd.DataFrame]:
    """Return (strategy, kind) -> table of index (row, step), one column per seed.

    Left out are weights that are constant or follow the counts of samples in a batch, and unfinished runs.
    """
    frame = study.frames.logged
    frame = frame[frame["run"].isin([one.run for one in study.frames.finished])]
    if frame.empty:  # pandas cannot split an empty column
        return {}
    split = frame["metric"].str.partition("/")
    frame = frame.assign(kind=split[0], row=split[2])
    found = {}
    for label in study.labels:
        for kind in KINDS:
            own = frame[(frame["label"] == label) & (frame["kind"] == kind)]
            if len(own) and own["row"].nunique() > 1 and _moves(own) and not _counts(own, _batch(study, label)):
                found[label, kind] = own.pivot_table(index=["row", "step"], columns="seed", values="value")
    return found


def _moves(frame: pd.DataFrame) -> bool:
    ranges = frame.groupby(["row", "seed"])["value"].agg(["min", "max"])
    return bool(((ranges["max"] - ranges["min"]) > STEADY * ranges["max"].abs()).any())


def _batch(study: Study, label: str) -> int:
    """Return the number of samples in a batch of a strategy. 0 if it is not known or changes."""
    run = next(one.run for one in study.frames.finished if one.label == label)
    training = study.frames.configs.get(run, {}).get("identity", {}).get("training", {})
    return 0 if "progressive" in training else int(training.get("batch", 0))


def _counts(frame: pd.DataFrame, batch: int) -> bool:
    """Return whether weights are shares of the samples in random batches, and change by nothing but their draws.

    They are multiples of 1 / batch, spread no more than counts do, and have no trend.
    """
    weights = frame.pivot_table(index=["seed", "step"], columns="row", values="value").fillna(0.0)
    shares = weights.div(weights.sum(axis=1), axis=0)
    if not batch or ((shares * batch).sub((shares * batch).round()).abs() > 1e-3).to_numpy().any():
        return False
    means, half = shares.mean(), len(shares) // 2
    steps = shares.index.get_level_values("step")
    late = steps > sorted(steps)[half]
    if not late.any() or late.all():
        return True
    binomial = (means * (1 - means) / batch) ** 0.5
    drift = (shares[late].mean() - shares[~late].mean()).abs()
    allowed = SIGMAS * binomial * (1 / late.sum() + 1 / (~late).sum()) ** 0.5
    return bool((shares.std() <= 1.5 * binomial).all() and (drift <= allowed).all())


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
