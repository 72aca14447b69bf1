"""The figures of a report, each with its title and caption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cmtl_ir.measures.scale import PSNR, Scale

from ..data.study import Study
from ..tables.formats import table_name
from . import bars, conflict, curves, matrices, severity, strips, weights
from .style import BANDS


@dataclass(frozen=True)
class Figure:
    """One figure as files (.png, .pdf, .svg)."""

    name: str
    title: str
    caption: str
    files: list[Path]

    def file(self, suffix: str) -> Path:
        """Return the file with a suffix, such as `.png`."""
        return next(file for file in self.files if file.suffix == suffix)


BAND = f"Line: mean over seeds; band: lowest to highest seed (none where more than {BANDS} strategies would overlap)"
STAGES = (
    "Grey verticals: where a strategy changes stage; the last panel names the stages. Thin: seeds with their own "
    "order of stages, which are not averaged"
)
Drawing = Callable[[Study, Path], list[Path]]


def of_metric(scale: Scale) -> dict[str, tuple[str, str, Drawing]]:
    """Return name -> (title, caption, function that draws it) of the figures that each metric has."""
    name, now = scale.label, f"{scale.label} now"
    best = scale.better(f"Best {name} at an earlier evaluation", now)
    gain = scale.better(f"Final {name}", "that of the degraded input")
    return {
        "curves": (f"{name} over training", f"{BAND}. {STAGES}.", partial(curves.score_curves, scale=scale)),
        "forgetting": (
            "Forgetting curves" if scale == PSNR else f"Forgetting curves of {name}",
            f"{best[0].upper()}{best[1:]}, from the second evaluation after a task's training began; "
            f"above 0 is forgotten. {BAND}. {STAGES}.",
            partial(curves.forgetting_curves, scale=scale),
        ),
        "gains": (
            "Gain per task" if scale == PSNR else f"Gain in {name} per task",
            f"{gain[0].upper()}{gain[1:]}; below 0, restoring does harm. Whiskers: 95 % t-interval over "
            f"seeds; with fewer than {bars.WHISKERS} seeds, each is a point. Dashed, where there is one: the task's "
            "single-task run.",
            partial(bars.gain_bars, scale=scale),
        ),
        "matrices": (
            "Every task after every stage (R)" if scale == PSNR else f"{name} of every task after every stage (R)",
            f"{scale.title}, mean over the seeds that had the same stages: a row is what the model could do when that "
            "stage ended. Framed: the stage that first trained the task. Colour: gain over the degraded input; "
            "bold and orange: below it. A column that pales downwards was forgotten.",
            partial(matrices.matrix_heatmaps, scale=scale),
        ),
    }


DRAWN: dict[str, tuple[str, str, Drawing]] = {
    "severity": (
        "Gain over severity",
        "PSNR of one plain pass minus that of the degraded image, which is at 0, at the five severities of each "
        "trained degradation; mean over images and seeds. Shaded: severities inside the training range.",
        severity.severity_curves,
    ),
    "restored": (
        "Restored samples",
        "The first test image of each task, and a crop of it where the strategies differ most; PSNR of the whole image",
        strips.restored_strips,
    ),
    "conflict": (
        "Conflict between tasks' gradients",
        "Cosine between the mini-batch gradients of two rows, mean over a span of training and over seeds; bold and "
        "orange: they pull against each other; hatched: not measured. "
        "Sampling noise shrinks these towards 0: the table corrects for it.",
        conflict.conflict_heatmaps,
    ),
    "conflict_rate": (
        "How often tasks conflict, and how often a step harms",
        "Left: share of pairs of rows with opposed gradients. Right: share of rows whose loss the optimizer's real "
        f"step raised, measured on the next batch. Dotted: {conflict.NOISE}, what noise alone "
        f"gives. Running means over {conflict.SMOOTH} logged steps. {BAND}.",
        conflict.conflict_curves,
    ),
    "weights": (
        "Task weights over training",
        f"Strategies whose weights are constant, or follow the counts of samples in a batch, are not shown. "
        f"Running means over 1/{weights.SMOOTH} of the run "
        f"(with one seed the thin lines are what was logged). {BAND}.",
        weights.weight_trajectories,
    ),
    "pareto": (
        "Quality against cost",
        "Upper left is better; the grey line joins the strategies that no other beats in both. Vertical: 95 % "
        f"t-interval over seeds, or their range with fewer than {bars.WHISKERS}; horizontal: cheapest to dearest seed.",
        bars.pareto,
    ),
}
"""Name -> (title, caption, function that draws it) of the figures that a report has once."""


MORE: dict[str, Callable[[Study], str]] = {
    "restored": lambda study: f", {strips.caption(study)}",
    "conflict_rate": lambda study: f" {conflict.without_rates(study)}".rstrip(),
}
"""Name -> function that returns the end of a caption, which depends on the study."""


def draw(study: Study, folder: Path) -> list[Figure]:
    """Draw all figures with data into a folder: those of PSNR, the common ones, then those of each further metric."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {**of_metric(PSNR), **DRAWN}
    for scale in study.scales[1:]:
        wanted |= {table_name(name, scale): drawn for name, drawn in of_metric(scale).items()}
    made = []
    for name, (title, caption, function) in wanted.items():
        files = function(study, folder / name)
        if files:
            more = MORE[name](study) if name in MORE else ""
            made.append(Figure(name, title, caption + more, files))
    return made
