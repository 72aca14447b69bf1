"""R-matrix heat-maps: the score of every task after every stage, one panel a strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .study import Study
from .style import house, save


def staged(study: Study) -> list[str]:
    """The strategies that train in more than one stage."""
    counts = study.frames.matrices.groupby("label")["stage"].nunique()
    return [label for label in study.labels if counts.get(label, 0) > 1]


def matrix_heatmaps(study: Study, path: Path) -> list[Path]:
    """R in dB (mean over seeds); colour is the gain over the degraded input, a frame marks a task's own stage."""
    labels = staged(study)
    if not labels:
        return []
    frame, tasks = study.frames.matrices, study.frames.tasks
    floor = study.scores.drop_duplicates("task").set_index("task")["psnr_input"][tasks].to_numpy()
    tables = {
        label: frame[frame["label"] == label].pivot_table(index="stage", columns="task", values="psnr")[tasks]
        for label in labels
    }
    gains = np.concatenate([table.to_numpy() - floor for table in tables.values()])
    limits = {"vmin": float(gains.min()), "vmax": float(gains.max()), "cmap": "cividis"}
    with house() as plots:
        width = 1.1 + 0.72 * len(tasks)
        height = 0.9 + 0.42 * max(len(table) for table in tables.values())
        figure, axes = plots.subplots(
            1, len(labels), figsize=(width * len(labels) + 0.9, height), squeeze=False, layout="constrained"
        )
        for axis, label in zip(axes[0], labels, strict=True):
            own = frame[frame["label"] == label]
            image = axis.imshow(tables[label].to_numpy() - floor, aspect="auto", **limits)
            _annotate(axis, tables[label].to_numpy(), tables[label].to_numpy() - floor, limits)
            _name(axis, label, own, tasks)
        figure.colorbar(image, ax=axes[0], label="gain over input (dB)", shrink=0.9)
        return save(figure, path)


def _annotate(axis: Any, scores: np.ndarray, gains: np.ndarray, limits: dict[str, Any]) -> None:
    middle = (limits["vmin"] + limits["vmax"]) / 2
    for (row, column), score in np.ndenumerate(scores):
        colour = "black" if gains[row, column] > middle else "white"
        axis.text(column, row, f"{score:.1f}", ha="center", va="center", fontsize=9, color=colour)


def _name(axis: Any, label: str, own: Any, tasks: list[str]) -> None:
    from matplotlib.patches import Rectangle

    stages = own.drop_duplicates("stage").sort_values("stage")["stage_name"]
    names = [f"{number + 1}: {name}" if len(name) < 16 else f"stage {number + 1}" for number, name in enumerate(stages)]
    axis.set_yticks(range(len(names)), names)
    axis.set_xticks(range(len(tasks)), tasks)
    axis.set(title=label, xlabel="scored on")
    axis.tick_params(length=0)
    for column, task in enumerate(tasks):
        row = int(own[own["task"] == task]["own_stage"].iloc[0])
        if row >= 0:
            corner = (column - 0.46, row - 0.45)
            axis.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor="white", linewidth=3))
            axis.add_patch(Rectangle(corner, 0.92, 0.9, fill=False, edgecolor="#D55E00", linewidth=1.5))
