"""Forgetting curves: PSNR of every task over steps, one panel a task, one line a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .style import looks, pyplot, save


def forgetting_curves(results: Sequence[dict[str, Any]], path: Path) -> list[Path]:
    """Draw PSNR in dB over steps from the curves of results (mean over seeds, band from lowest to highest seed).

    The degraded input's PSNR is the dotted floor; grey verticals mark where a sequential strategy changes stage.
    """
    labels = list(dict.fromkeys(result["label"] for result in results))
    tasks = list(results[0]["psnr"])
    look = looks(labels)
    figure, axes = pyplot().subplots(
        1, len(tasks), figsize=(3.6 * len(tasks), 3.2), squeeze=False, layout="constrained"
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        for label in labels:
            runs = [result for result in results if result["label"] == label]
            steps = [point["step"] for point in runs[0]["curve"]]
            values = np.array([[point["psnr"][task] for point in run["curve"]] for run in runs])  # [seeds, points]
            axis.plot(steps, values.mean(0), label=label, linewidth=1.8, **look[label])
            if len(runs) > 1:
                axis.fill_between(steps, values.min(0), values.max(0), color=look[label]["color"], alpha=0.15, lw=0)
        for step in _boundaries(results):
            axis.axvline(step, color="0.8", linewidth=1, zorder=0)
        axis.axhline(results[0]["psnr_input"][task], color="0.4", linewidth=1, linestyle=":", label="degraded input")
        axis.set(title=task, xlabel="step")
    axes[0][0].set_ylabel("PSNR (dB)")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, len(names)), frameon=False)
    return save(figure, path)


def _boundaries(results: Sequence[dict[str, Any]]) -> list[int]:
    ends = {
        point["step"] for result in results for point in result["curve"] if point["stage_end"] is not None
    }  # the last end is the run's own
    return sorted(ends - {result["steps"] for result in results})
