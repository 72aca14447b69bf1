"""Curves over training steps: scores of every task, and what of them was forgotten. One panel per task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmtl_ir.measures.continual import NEVER, forgetting_curve
from cmtl_ir.measures.scale import PSNR, Scale

from ..data.study import Study
from .matrices import input_scores, staged
from .style import BANDS, house, legend_below, looks, marker, panels, save

if TYPE_CHECKING:
    import pandas as pd

FEW = 3
"""Points of a line up to which they are marked, each strategy's in its own way: such lines tell little apart."""
LONE = "8"
"""How a point is marked that is no line, where the others are."""


def score_curves(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """A metric over steps: mean over seeds, band from lowest to highest seed; the degraded input for comparison."""
    floors = input_scores(study, scale)

    def floor(axis: Any, task: str) -> None:
        axis.axhline(floors[task], color="0.4", linewidth=1, linestyle=":", label="degraded input")

    return _curves(study, table(study.frames.curves, scale.name), scale.axis, floor, path)


def forgetting_curves(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """How much worse than the best earlier evaluation since the task was first trained; above 0 is bad."""

    def zero(axis: Any, task: str) -> None:
        axis.axhline(0.0, color="0.4", linewidth=1, linestyle=":", label="as good as ever")

    values = forgetting_table(study, scale)
    if values.empty:
        return []
    if values.groupby(["label", "task"]).size().max() == 1 and not staged(study):
        return []  # one point each, and nobody has an earlier stage to forget
    unit = f"forgotten ({scale.unit or scale.label})"
    return _curves(study, values, unit, zero, path)


def table(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Index (label, task, step), a column a seed."""
    return frame.pivot_table(index=["label", "task", "step"], columns="seed", values=column, sort=False)


def forgetting_table(study: Study, scale: Scale = PSNR) -> pd.DataFrame:
    """Like `table`: forgetting in the metric's unit; NaN before the second evaluation of a trained task."""
    import pandas as pd

    found = [_forgetting(study, own, scale) for _, own in study.frames.curves.groupby(["label", "seed"], sort=False)]
    return table(pd.concat(found).dropna(subset=["forgetting"]), "forgetting")


def _forgetting(study: Study, curve: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """One run's curve with a column `forgetting`."""
    import pandas as pd

    scores = curve.pivot_table(index="step", columns="task", values=scale.name, dropna=False)  # [E, T]
    matrices = study.frames.matrices
    own = matrices[(matrices["label"] == curve["label"].iloc[0]) & (matrices["seed"] == curve["seed"].iloc[0])]
    stages = own.drop_duplicates("task").set_index("task")["own_stage"]
    ends = sorted(own["step"].unique())
    first = [_first_evaluation(scores.index, ends, int(stages.get(task, NEVER))) for task in scores]
    values = forgetting_curve(scores.to_numpy(), scale, first)
    tidy = pd.DataFrame(values, index=scores.index, columns=scores.columns)
    long = tidy.reset_index().melt(id_vars="step", var_name="task", value_name="forgetting")
    return curve[["label", "seed", "step", "task"]].merge(long, on=["step", "task"])


def _first_evaluation(steps: Any, ends: list[int], own_stage: int) -> int:
    """Number of the first evaluation after the own stage began."""
    if own_stage == NEVER:
        return NEVER
    start = ends[own_stage - 1] if own_stage else 0
    return int(np.searchsorted(np.asarray(steps), start, side="right"))


def _curves(
    study: Study, values: pd.DataFrame, unit: str, ground: Callable[[Any, str], None], path: Path
) -> list[Path]:
    if values.empty:
        return []
    look, drawn = looks(study.frames.labels), set(values.index.get_level_values("label"))
    labels = [label for label in study.labels if label in drawn]
    are_few = values.groupby(["label", "task"]).size().max() <= FEW
    boundaries = {label: _boundaries(study, label) for label in labels}
    with house() as plots:
        figure, axes = panels(plots, len(study.frames.tasks))
        for axis, task in zip(axes, study.frames.tasks, strict=True):
            for label in labels:
                own = {**look[label], "marker": marker(study.frames.labels, label) if are_few else LONE}
                _line(axis, values, label, task, own, with_band=len(labels) <= BANDS)
                for step in boundaries[label]:
                    axis.axvline(step, color=look[label]["color"], linewidth=0.8, alpha=0.45, linestyle=(0, (2, 3)))
            ground(axis, task)
            if task not in values.index.get_level_values("task"):
                axis.set_yticks([])
                axis.text(0.5, 0.6, "nothing measured yet", ha="center", color="0.35", transform=axis.transAxes)
            axis.set(title=task, xlabel="step", xlim=(0, max(study.frames.steps.values())))
        axes[0].set_ylabel(unit)
        legend_below(figure, axes[0])
        return save(figure, path)


def _line(axis: Any, values: pd.DataFrame, label: str, task: str, look: dict[str, Any], with_band: bool) -> None:
    own = values[(values.index.get_level_values("label") == label) & (values.index.get_level_values("task") == task)]
    own = own.droplevel(["label", "task"]).sort_index()
    own = own[own.notna().sum(axis=1) == own.notna().sum(axis=1).max()]  # points that all seeds have
    if look["marker"] == LONE and len(own) > 1:
        look = {**look, "marker": ""}
    axis.plot(own.index, own.mean(axis=1), label=label, linewidth=1.8, markersize=5, clip_on=False, **look)
    if with_band and own.notna().any(axis=0).sum() > 1:
        axis.fill_between(own.index, own.min(axis=1), own.max(axis=1), color=look["color"], alpha=0.15, lw=0)


def _boundaries(study: Study, label: str) -> list[int]:
    """Steps at which a strategy changes stage (the last end is the run's own)."""
    frame = study.frames.matrices
    return sorted(frame[frame["label"] == label]["step"].unique())[:-1]
