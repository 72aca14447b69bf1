"""Figures of the report of an unlearning request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import seed_interval
from cmtl_ir.store.layout import image_file
from cmtl_ir.unlearning.attack import over_seeds
from cmtl_ir.unlearning.report import COLLATERAL_DB, Measured, Report

from .strips import most_telling
from .style import house, legend_below, legend_name, looks, panels, points, save, title

SHEET = 6
"""Maximum number of images side by side."""
WIDTH = 4.1
"""Width of a panel in inches."""
LINE = 0.21
"""Height of a method's name in inches."""


def overview(report: Report, path: Path, scale: Scale = PSNR) -> list[Path]:
    """Draw scores of forgotten against retained tasks, and the harm of each retained task, as means over seeds.

    The figure of PSNR also shows relearning, membership and cost.
    """
    look = looks(report.labels)
    with house() as plots:
        height = max(3.1, 0.9 + LINE * len(report.labels))
        is_first = scale == PSNR
        figure, axes = panels(plots, 5 if is_first else 2, width=WIDTH, height=height, columns=3 if is_first else 2)
        _trade(axes[0], report, look, scale)
        _harm(axes[1], report, scale)
        if is_first:
            _relearning(axes[2], report, look)
            _membership(axes[3], report, look)
            _cost(axes[4], report)
        legend_below(figure, axes[0])
        return save(figure, path)


def _trade(axis: Any, report: Report, look: dict[str, dict[str, Any]], scale: Scale) -> None:
    """Draw one point per method, and lines through the retrained model and the degraded input.

    A method near the crossing of the retrained model's lines is good.
    """
    for label in report.labels:
        models = report.of(label)
        forget, retain = (_mean(models, tasks, scale) for tasks in (report.forget, report.retain))
        axis.plot(forget, retain, markersize=6, label=legend_name(label), **points(look[label]))
    references = [one for seed in report.references if (one := report.retrained(seed)) is not None]
    if references:
        forget, retain = (_mean(references, tasks, scale) for tasks in (report.forget, report.retain))
        axis.axvline(forget, color="0.6", linewidth=0.8, zorder=0)
        axis.axhline(retain, color="0.6", linewidth=0.8, zorder=0)
    untouched = _untouched(report, scale)
    if np.isfinite(untouched):
        axis.axvline(untouched, color="0.4", linewidth=1, linestyle=":", zorder=0)
    unit = f" ({scale.unit})" if scale.unit else ""
    names = [f"{scale.label} of {', '.join(tasks)}{unit}" for tasks in (report.forget, report.retain)]
    axis.set(xlabel=title(names[0], WIDTH), ylabel=title(names[1], 2.6))
    said = "grey: the retrained model" if references else "no retrained model to compare with"
    axis.set_title(f"{said}; dotted: input" if np.isfinite(untouched) else said)


def _untouched(report: Report, scale: Scale) -> float:
    """Return the score of the degraded input on the forgotten tasks. NaN if it is not known."""
    known = [one.result.get(f"{scale.name}_input", {}) for one in report.models]
    return float(np.mean([[scores.get(task, np.nan) for task in report.forget] for scores in known]))


def _mean(models: Sequence[Measured], tasks: Sequence[str], scale: Scale) -> float:
    return float(np.mean([[one.score(task, scale) for task in tasks] for one in models]))


def _harm(axis: Any, report: Report, scale: Scale) -> None:
    labels = [label for label in report.labels if not report.of(label)[0].is_original]
    height = 0.8 / max(len(report.retain), 1)
    for place, task in enumerate(report.retain):
        found = [seed_interval([report.harm(one, task, scale) for one in report.of(label)]) for label in labels]
        at = np.arange(len(labels)) - 0.4 + height * (place + 0.5)
        half = [(one.high - one.low) / 2 if np.isfinite(one.low) else 0.0 for one in found]
        grey = f"{0.25 + 0.5 * place / max(len(report.retain), 1):.2f}"
        axis.barh(at, [one.estimate for one in found], height * 0.92, xerr=half, color=grey, label=task,
                  error_kw={"elinewidth": 0.7})  # fmt: skip
    if scale == PSNR:
        axis.axvline(-COLLATERAL_DB, color="0.4", linewidth=0.8, dashes=(3, 2))
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set(xlabel=f"change against the original ({scale.unit or scale.label}), < 0 is worse")
    axis.set_title(f"retained tasks (dashed: -{COLLATERAL_DB:g} dB)" if scale == PSNR else "retained tasks")
    axis.legend(frameon=False)


def _relearning(axis: Any, report: Report, look: dict[str, dict[str, Any]]) -> None:
    """Draw the PSNR on fixed crops of training images while the task is trained again, for the first seed.

    A curve ends in its method's marker, where the task is relearned or the budget is spent.
    """
    targets = []
    targets, longest = list[float](), 0
    for label in report.labels:
        back = report.of(label)[0].audit.relearning
        if back is None:
            continue
        targets.append(back.target)
        longest = max(longest, back.curve[-1][0])
        end = [len(back.curve) - 1]
        axis.plot(*zip(*back.curve, strict=True), linewidth=1.2, markersize=5, markevery=end, **look[label])
    for target in targets[:1]:
        axis.axhline(target, color="0.4", linewidth=0.8, dashes=(3, 2))
    if not targets:
        axis.text(0.5, 0.5, "not measured", ha="center", color="0.35", transform=axis.transAxes)
    names = title(f"PSNR of {', '.join(report.forget)} (dB)", 2.6)
    axis.set(xlabel="steps of relearning", ylabel=names, xlim=(-0.02 * longest, None))
    axis.set_title("trained on it again (dashed: known again)")


def _membership(axis: Any, report: Report, look: dict[str, dict[str, Any]]) -> None:
    """Draw the AUC of the attack on every method with its 95 % interval, and the line of a guess."""
    for place, label in enumerate(report.labels):
        found = over_seeds([one.audit.attack for one in report.of(label)])
        if np.isfinite(found.estimate):
            half = [[found.estimate - found.low], [found.high - found.estimate]]
            axis.errorbar(found.estimate, place, xerr=half, elinewidth=0.9, capsize=2, **points(look[label]))
        else:
            axis.text(0.5, place, "too few samples", ha="center", va="center", fontsize=7, color="0.35")
    axis.axvline(0.5, color="0.4", linewidth=1, linestyle=":")
    axis.set_yticks(range(len(report.labels)), report.labels)
    axis.set(xlabel="AUC, 95 % interval", ylim=(len(report.labels) - 0.5, -0.5))
    axis.set_title("membership of training draws (dotted: a guess)")


def _cost(axis: Any, report: Report) -> None:
    labels = [label for label in report.labels if not report.of(label)[0].is_original]
    times = [float(np.mean([report.time_of(one) for one in report.of(label)])) for label in labels]
    axis.barh(range(len(labels)), times, color="0.5")
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set(xlabel=report.time_unit)
    axis.set_title("time from the original to the result")


# ------------------------------------------------------------------------------------------------- side by side


def side_by_side(report: Report, task: str, path: Path) -> list[Path]:
    """Draw the crop of a test image where the models differ most: input, original, every method, clean."""
    models = {label: report.of(label)[0] for label in report.labels}
    images = {label: _pixels(image_file(one.folder, task, "restored")) for label, one in models.items()}
    shown = {label: image for label, image in images.items() if image is not None}
    home = report.models[0].folder
    degraded, clean = (_pixels(image_file(home, task, kind)) for kind in ("input", "clean"))
    if degraded is None or clean is None or not shown:
        return []
    top, left, side = most_telling(list(shown.values()), clean)
    cells = {"input": degraded, **shown, "clean": clean}
    with house() as plots:
        figure, axes = panels(plots, len(cells), width=1.6, height=1.85, columns=SHEET)
        for axis, (label, image) in zip(axes, cells.items(), strict=True):
            axis.imshow(image[top : top + side, left : left + side], interpolation="nearest")
            axis.set_title(title(label, 1.9), fontsize=8)
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set_visible(False)
        return save(figure, path)


def _pixels(file: Path) -> NDArray[np.uint8] | None:
    return np.asarray(Image.open(file).convert("RGB")) if file.is_file() else None
