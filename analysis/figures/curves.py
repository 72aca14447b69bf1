"""Curves of score and forgetting over training steps, one panel per task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmtl_ir.measures.continual import NEVER, forgetting_curve
from cmtl_ir.measures.scale import PSNR, Scale

from ..data.study import Study
from .matrices import input_scores, staged
from .style import BANDS, house, legend_below, legend_name, looks, marker, panels, save

if TYPE_CHECKING:
    import pandas as pd

FEW = 3
"""Lines of at most this many points get a marker per strategy, because colour and dashes are hard to see."""
LONE = "8"
"""Marker of a single point in a panel of lines."""


def score_curves(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw a metric over steps: mean over seeds, band from lowest to highest seed, and the degraded input."""
    floors = input_scores(study, scale)

    def floor(axis: Any, task: str) -> None:
        axis.axhline(floors[task], color="0.4", linewidth=1, linestyle=":", label="degraded input")

    return _curves(study, table(study.frames.curves, scale.name), scale.axis, floor, path)


def forgetting_curves(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw the drop below the best earlier evaluation since the task was first trained. Values above 0 are bad."""

    def zero(axis: Any, task: str) -> None:
        axis.axhline(0.0, color="0.4", linewidth=1, linestyle=":", label="as good as ever")

    values = forgetting_table(study, scale)
    if values.empty:
        return []
    if values.groupby(["label", "task"]).size().max() == 1 and not staged(study):
        return []  # one point per line, and no strategy has an earlier stage to forget
    unit = f"forgotten ({scale.unit or scale.label})"
    return _curves(study, values, unit, zero, path)


def table(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a table with index (label, task, step) and one column per seed."""
    return frame.pivot_table(index=["label", "task", "step"], columns="seed", values=column, sort=False)


def forgetting_table(study: Study, scale: Scale = PSNR) -> pd.DataFrame:
    """Return the forgetting in the metric's unit in the form of `table`. NaN before a task's second evaluation."""
    import pandas as pd

    found = [_forgetting(study, own, scale) for _, own in study.frames.curves.groupby(["label", "seed"], sort=False)]
    return table(pd.concat(found).dropna(subset=["forgetting"]), "forgetting")


def _forgetting(study: Study, curve: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Return the curve of one run with a column `forgetting`."""
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
    """Return the number of the first evaluation after a task's own stage began, or NEVER if it has none."""
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
    axis.plot(own.index, own.mean(axis=1), label=legend_name(label), linewidth=1.8, markersize=5, clip_on=False, **look)
    if with_band and own.notna().any(axis=0).sum() > 1:
        axis.fill_between(own.index, own.min(axis=1), own.max(axis=1), color=look["color"], alpha=0.15, lw=0)


def _boundaries(study: Study, label: str) -> list[int]:
    """Return the steps at which a strategy changes stage, without the end of the run."""
    frame = study.frames.matrices
    return sorted(frame[frame["label"] == label]["step"].unique())[:-1]
