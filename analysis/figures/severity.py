"""Gain over severity, one panel per task, with the training range shaded."""

from __future__ import annotations

from pathlib import Path

from cmtl_ir.suites.blocks import INSIDE
from cmtl_ir.suites.severity import NAME
from cmtl_ir.suites.summary import Summary

from ..data.study import Study
from ..data.suites import of_strategies
from .style import house, legend_below, legend_name, looks, panels, save

SHADE = "#e6e6e6"


def severity_curves(study: Study, path: Path) -> list[Path]:
    """Draw the gain of one plain pass at each severity. The degraded image is at 0."""
    found = {label: _plain(own) for label, own in of_strategies(study).items()}
    found = {label: own for label, own in found.items() if own}
    tasks = dict.fromkeys(one.task for own in found.values() for one in own)
    if not tasks:
        return []
    look = looks(study.frames.labels)
    with house() as plots:
        figure, axes = panels(plots, len(tasks))
        for axis, task in zip(axes, tasks, strict=True):
            for level in sorted({one.level or 0 for own in found.values() for one in own
                                 if one.task == task and one.block == INSIDE}):  # fmt: skip
                axis.axvspan(level - 0.5, level + 0.5, color=SHADE, linewidth=0)
            axis.axhline(0.0, color="black", linewidth=0.8)
            for label, own in found.items():
                points = sorted((one.level or 0, one.gain.estimate) for one in own if one.task == task)
                if points:
                    axis.plot(*zip(*points, strict=True), **look[label], label=legend_name(label))
            axis.set(title=task, xlabel="severity", ylabel="gain over degraded input (dB)", xlim=(0.5, 5.5))
            axis.set_xticks(range(1, 6))
        legend_below(figure, axes[0])
        return save(figure, path)


def _plain(found: list[Summary]) -> list[Summary]:
    return [one for one in found if one.suite == NAME and one.answer == "none"]
