"""The figures of a report, each with the caption without which it would be misread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..data.study import Study
from . import bars, conflict, curves, matrices, strips, weights
from .style import BANDS


@dataclass(frozen=True)
class Figure:
    """One figure as files (.png, .pdf, .svg)."""

    name: str
    title: str
    caption: str
    files: list[Path]

    def file(self, suffix: str) -> Path:
        """The file of one kind."""
        return next(file for file in self.files if file.suffix == suffix)


BAND = f"Line: mean over seeds; band: lowest to highest seed (none where more than {BANDS} strategies would overlap)"
STAGES = "dotted verticals: where the strategy of that colour changes stage"
DRAWN: dict[str, tuple[str, str, Callable[[Study, Path], list[Path]]]] = {
    "curves": ("PSNR over training", f"{BAND}; {STAGES}.", curves.psnr_curves),
    "forgetting": (
        "Forgetting curves",
        "Best PSNR at an earlier evaluation minus PSNR now, from the second evaluation after a task's training began; "
        f"above 0 is forgotten. {BAND}; {STAGES}.",
        curves.forgetting_curves,
    ),
    "gains": (
        "Gain per task",
        "Final PSNR minus that of the degraded input; below 0, restoring does harm. Whiskers: 95 % t-interval over "
        "seeds (none with one seed). Dashed, where there is one: the task's single-task run.",
        bars.gain_bars,
    ),
    "matrices": (
        "Every task after every stage (R)",
        "PSNR in dB, mean over the seeds that had the same stages: a row is what the model could do when that stage "
        "ended. Framed: the stage that first trained the task. A column that darkens downwards was forgotten.",
        matrices.matrix_heatmaps,
    ),
    "restored": (
        "Restored samples",
        "The first test image of each task, and a crop of it where the strategies differ most; PSNR of the whole image",
        strips.restored_strips,
    ),
    "conflict": (
        "Conflict between tasks' gradients",
        "Cosine between the mini-batch gradients of two rows, mean over a span of training and over seeds; bold and "
        "orange: they pull against each other. Sampling noise shrinks these towards 0: the table corrects for it.",
        conflict.conflict_heatmaps,
    ),
    "conflict_rate": (
        "How often tasks conflict, and how often a step harms",
        "Left: share of pairs of rows with opposed gradients. Right: share of rows whose loss the optimizer's real "
        f"step raised, measured on the next batch. Running means over {conflict.SMOOTH} logged steps. {BAND}.",
        conflict.conflict_curves,
    ),
    "weights": (
        "Task weights over training",
        f"Strategies that keep their weights constant are not shown. Running means over 1/{weights.SMOOTH} of the run "
        f"(with one seed the thin lines are what was logged). {BAND}.",
        weights.weight_trajectories,
    ),
    "pareto": (
        "Quality against cost",
        "Upper left is better; the grey line joins the strategies that no other beats in both. Vertical: 95 % "
        "t-interval over seeds; horizontal: fastest to slowest seed, which says how busy the machine was.",
        bars.pareto,
    ),
}
"""Name -> (title, caption, function that draws it)."""


def draw(study: Study, folder: Path) -> list[Figure]:
    """Draw every figure that there is data for into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (title, caption, function) in DRAWN.items():
        files = function(study, folder / name)
        if files:
            more = f", {strips.caption(study)}" if name == "restored" else ""
            made.append(Figure(name, title, caption + more, files))
    return made
