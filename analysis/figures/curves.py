"""Curves of score and forgetting over training steps, one panel per task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmtl_ir.measures.continual import NEVER, forgetting_curve
from cmtl_ir.measures.scale import PSNR, Scale

from ..data.study import Study
from . import stages
from .direct import at_ends
from .matrices import input_scores, staged
from .style import BANDS, house, leftmost, legend_below, legend_name, looks, panels, save, sparse, title

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT = 3.4, 2.9
"""Size of a panel in inches."""
MANY, LARGER = 12, 1.3
"""Number of strategies above which panels are larger, and by how much."""
LONE = 3
"""Maximum number of single points in a panel that are named."""
BOUNDARIES = 60
"""Maximum number of verticals in a panel."""


def score_curves(study: Study, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw a metric over steps: mean over seeds, band from lowest to highest seed, and the degraded input."""
    floors = input_scores(study, scale)

    def floor(axis: Any, task: str) -> None:
        level = floors[task] if task in floors else floors[study.frames.tasks].mean()
        axis.axhline(level, color="0.4", linewidth=1, linestyle=":", label="degraded input")

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
    staged, look = stages.schedules(study), looks(study.frames.labels)
    drawn = set(values.index.get_level_values("label"))
    labels = [label for label in study.labels if label in drawn]
    measured = set(values.index.get_level_values("task"))
    tasks = [task for task in study.frames.tasks if task in measured]
    means = _means(values, tasks) if len(tasks) > 1 else {}
    of_task = {task: _only(values, "task", task) for task in tasks} | means
    scaling = LARGER if len(labels) > MANY else 1.0
    width = scaling * WIDTH
    has_stages, last = bool(stages.by_stages(staged)), max(study.frames.steps.values())
    with house() as plots:
        figure, axes = panels(plots, len(of_task) + has_stages, width, scaling * HEIGHT)
        places = [axis for place, axis in enumerate(axes) if not (has_stages and place == len(tasks))]
        for axis, (task, own) in zip(places, of_task.items(), strict=True):
            axis.set_xlim(0, max(last, 1))  # an outside model has no steps
            for step in stages.boundaries(staged)[:BOUNDARIES]:
                axis.axvline(step, color="0.85", linewidth=0.7, zorder=0)
            _panel(axis, own, [one for one in staged if one.label in labels], look)
            if task in measured:
                _name_lone_points(axis, own, last)
            ground(axis, task)
            axis.set(title=title(task, width), xlabel="step")
        if has_stages:
            stages.draw(axes[len(tasks)], staged, width * 0.85)
            axes[len(tasks)].set_xlim(0, last)
        at_ends(places[-1], _ends(list(of_task.values())[-1], labels), look)
        for axis in leftmost(places):
            axis.set_ylabel(unit)
        if left := [task for task in study.frames.tasks if task not in measured]:
            figure.suptitle(title(f"nothing measured yet: {', '.join(left)}", WIDTH * 3), fontsize=8, color="0.35")
        legend_below(figure, axes[0])
        return save(figure, path)


def _only(values: pd.DataFrame, level: str, key: str) -> pd.DataFrame:
    """Return the rows with a key at a level of the index, without this level."""
    return values[values.index.get_level_values(level) == key].droplevel(level)


def _means(values: pd.DataFrame, tasks: list[str]) -> dict[str, pd.DataFrame]:
    """Return the mean over tasks, at the evaluations with the most tasks of a strategy and seed."""
    by_step = values.groupby(level=["label", "step"], sort=False)
    most = by_step.count().groupby(level="label").transform("max")
    means = by_step.mean().where(by_step.count() == most).dropna(how="all")
    return {f"mean over {len(tasks)} tasks": means}


def _ends(values: pd.DataFrame, labels: list[str]) -> dict[str, tuple[float, float]]:
    """Return label -> last point (step, mean over seeds)."""
    found = {}
    for label in labels:
        if label in values.index.get_level_values("label"):
            own = _only(values, "label", label).mean(axis=1).dropna().sort_index()
            found[label] = (float(own.index[-1]), float(own.iloc[-1]))
    return found


def _panel(axis: Any, values: pd.DataFrame, staged: list[stages.Schedule], look: dict[str, dict[str, Any]]) -> None:
    """Draw the lines of a task. Seeds of a strategy are averaged only if they have the same stages."""
    known = set(values.index.get_level_values("label"))
    with_band = len({one.label for one in staged}) <= BANDS
    named = set[str]()
    for one in staged:
        if one.label in known:
            own = _only(values, "label", one.label).reindex(columns=list(one.seeds)).dropna(how="all").sort_index()
            name = "" if one.label in named else legend_name(one.label)
            place = list(look).index(one.label)
            _line(axis, own, look[one.label], name, place, with_band and one.is_only, 1.8 if one.is_only else 0.9)
            named.add(one.label)


def _name_lone_points(axis: Any, values: pd.DataFrame, last: int) -> None:
    """Write the names of strategies with a single evaluation beside their points, if there are few of them."""
    counts = values.groupby(level="label").size()
    lone = [str(label) for label in counts[counts == 1].index]
    for label in lone if len(lone) <= LONE else []:
        (step,), (score,) = (part for part in zip(*_only(values, "label", label).mean(axis=1).items(), strict=True))
        side = {"ha": "right", "xytext": (-6, 4)} if step >= last else {"xytext": (6, 4)}
        axis.annotate(legend_name(label), (step, score), textcoords="offset points", fontsize=7, **side)


def _line(
    axis: Any, own: pd.DataFrame, look: dict[str, Any], name: str, place: int, with_band: bool, width: float
) -> None:
    if own.empty:
        return
    own = own[own.notna().sum(axis=1) == own.notna().sum(axis=1).max()]  # points that all seeds have
    size = 7 if len(own) == 1 else 4.5
    axis.plot(
        own.index, own.mean(axis=1), label=name or None, linewidth=width, markersize=size, clip_on=False,
        markevery=sparse(len(own), place), **look,
    )  # fmt: skip
    if with_band and own.notna().any(axis=0).sum() > 1:
        axis.fill_between(own.index, own.min(axis=1), own.max(axis=1), color=look["color"], alpha=0.15, lw=0)
