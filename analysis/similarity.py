"""Similarity of tasks by several measures: tables, heat-maps, and the agreement of the measures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmtl_ir.base import escaping
from cmtl_ir.base.files import write_whole
from cmtl_ir.strategy.grouping import Group, Matrix

from .figures.style import house, not_measured, save

Array = NDArray[np.float64]


def leave_similarity(
    matrices: Mapping[str, Matrix],
    folder: Path,
    notes: Sequence[str] = (),
    groups: Mapping[str, Sequence[Group]] | None = None,
) -> list[Path]:
    """Write similarity.csv, similarity.md and similarity.png/.pdf/.svg. Return the files.

    `groups`: measure -> the groups that follow from it, or `None` to show no groups. Those of a measure without any
    measurable pair are not shown.
    """
    groups = {name: own for name, own in (groups or {}).items() if is_measured(matrices[name])}
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "similarity.md"
    sections = [_section(one, groups.get(name, ())) for name, one in matrices.items()]
    if len(matrices) > 1:
        sections.append(f"## Agreement\n\n{AGREEMENT}\n\n{_agreement_table(matrices)}")
    sections += ["\n".join(f"- {escaping.markdown_paragraph(note, code=True)}" for note in notes)] if notes else []
    write_whole(text, "\n\n".join(sections) + "\n")
    return [_csv(matrices, folder / "similarity.csv"), text, *heatmaps(matrices, folder / "similarity", groups)]


def _section(matrix: Matrix, groups: Sequence[Group]) -> str:
    head = f"## {escaping.markdown(matrix.title)}\n\n{escaping.markdown_paragraph(matrix.meaning)}"
    lacking = "" if is_measured(matrix) else "\n\nNo pair of tasks was measurable: no groups follow from this."
    return f"{head}\n\n{markdown(matrix)}{_grouped(groups)}{lacking}"


def is_measured(matrix: Matrix) -> bool:
    """Return whether the similarity of at least one pair of different tasks was measurable."""
    return bool(np.isfinite(matrix.values[~np.eye(len(matrix.values), dtype=bool)]).any())


def _grouped(groups: Sequence[Group]) -> str:
    return f"\n\nGroups: {escaping.markdown_paragraph(in_words(groups))}" if groups else ""


def in_words(groups: Sequence[Group]) -> str:
    """Return groups as text, such as `noise + rain | haze`. Tasks that only help in a group are in brackets."""
    return " | ".join(
        " + ".join(task if task in group.serves else f"({task})" for task in group.tasks) for group in groups
    )


AGREEMENT = (
    "Spearman's rank correlation of two measures over all pairs of tasks (high: similar; a matrix that is not "
    "symmetric is averaged with its transpose). Pairs share tasks, so no p-value is given."
)


def markdown(matrix: Matrix) -> str:
    """Return a matrix as a Markdown table with one line per row."""
    lines = ["| | " + " | ".join(map(escaping.markdown, matrix.tasks)) + " |", "|---|" + "---|" * len(matrix.tasks)]
    for task, row in zip(matrix.tasks, matrix.values, strict=True):
        lines.append(f"| **{escaping.markdown(task)}** | " + " | ".join(shown(value) for value in row) + " |")
    return "\n".join(lines)


def shown(value: float) -> str:
    """Format a value with three digits, or as a dash if it is NaN."""
    return "-" if np.isnan(value) else f"{value:.3g}"


def _csv(matrices: Mapping[str, Matrix], path: Path) -> Path:
    rows: list[Sequence[object]] = [["measure", "row", "column", "value"]]
    for name, one in matrices.items():
        rows += [[name, one.tasks[i], one.tasks[j], value] for (i, j), value in np.ndenumerate(one.values)]
    return write_whole(path, escaping.csv_text(rows))


# -------------------------------------------------------------------------------------------------- agreement


def pairs(matrix: Matrix) -> Array:
    """Return the similarity of every pair of tasks, [K (K - 1) / 2]. High values mean similar."""
    both = (matrix.values + matrix.values.T) / 2
    return (1 if matrix.similar_is_high else -1) * both[np.triu_indices(len(both), 1)]


def agreement(a: Matrix, b: Matrix) -> float:
    """Return Spearman's rank correlation over the pairs that both measures have. NaN for fewer than 3 pairs."""
    from scipy import stats

    first, second = pairs(a), pairs(b)
    known = ~(np.isnan(first) | np.isnan(second))
    if known.sum() < 3 or not np.ptp(first[known]) or not np.ptp(second[known]):
        return float("nan")
    return float(stats.spearmanr(first[known], second[known]).statistic)


def _agreement_table(matrices: Mapping[str, Matrix]) -> str:
    names = tuple(matrices)
    values = np.array([[1.0 if a == b else agreement(matrices[a], matrices[b]) for b in names] for a in names])
    return markdown(Matrix("", names, values, ""))


# -------------------------------------------------------------------------------------------------- heat-maps


def heatmaps(
    matrices: Mapping[str, Matrix], path: Path, groups: Mapping[str, Sequence[Group]] | None = None
) -> list[Path]:
    """Draw one panel per measure, dark where tasks are alike. All panels have the same order of tasks.

    In the row of a task, the tasks that the measure would train together with it are framed.
    """
    with house() as plots:
        side = _side(max(len(one.tasks) for one in matrices.values()))
        figure, axes = plots.subplots(
            1, len(matrices), figsize=((side + 0.9) * len(matrices), side), squeeze=False, layout="constrained"
        )
        for axis, (name, one) in zip(axes[0], matrices.items(), strict=True):
            _panel(figure, axis, one)
            _frame(axis, one.tasks, (groups or {}).get(name, ()))
        return save(figure, path)


def _panel(figure: Any, axis: Any, matrix: Matrix) -> None:
    values = matrix.values.astype(float).copy()
    np.fill_diagonal(values, np.nan)  # the diagonal would take up the whole colour scale
    image = axis.imshow(np.ma.masked_invalid(values), **_colours(values, matrix.similar_is_high))
    for row, column in np.argwhere(np.isnan(values)):
        if row != column:
            axis.add_patch(not_measured(column, row))
    if not is_measured(matrix):
        axis.set_xlabel("no pair was measurable", fontsize=7)
    places = range(len(matrix.tasks))
    axis.set_xticks(places, matrix.tasks, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(places, matrix.tasks)
    axis.tick_params(length=0)
    axis.set_title(matrix.title)
    if len(matrix.tasks) <= 12:
        _annotate(axis, values, image)
    figure.colorbar(image, ax=axis, shrink=0.8)


def _colours(values: Array, similar_is_high: bool) -> dict[str, Any]:
    """Return colour scale and limits: diverging and centred at 0 for values of both signs."""
    known = values[np.isfinite(values)]
    if len(known) and known.min() < 0 < known.max():
        most = float(np.abs(known).max())
        return {"cmap": "PuOr" if similar_is_high else "PuOr_r", "vmin": -most, "vmax": most}
    return {"cmap": "cividis_r" if similar_is_high else "cividis"}


def _frame(axis: Any, tasks: Sequence[str], groups: Sequence[Group]) -> None:
    from matplotlib.patches import Rectangle

    together = {(a, b) for group in groups for a in group.serves for b in group.tasks if a != b}
    for row, column in ((tasks.index(a), tasks.index(b)) for a, b in together):
        corner = (column - 0.43, row - 0.43)
        axis.add_patch(Rectangle(corner, 0.86, 0.86, fill=False, edgecolor="white", linewidth=2.6))
        axis.add_patch(Rectangle(corner, 0.86, 0.86, fill=False, edgecolor="#D55E00", linewidth=1.3))
    if groups:
        across = int(12 * _side(len(tasks)))  # letters that fit into the width of a panel
        axis.set_xlabel(textwrap.fill(f"groups: {in_words(groups)}", across), fontsize=7)


def _side(tasks: int) -> float:
    """Return the side length of a panel in inches."""
    return 1.6 + 0.42 * tasks


def _annotate(axis: Any, values: Array, image: Any) -> None:
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            axis.text(column, row, f"{value:.2g}", ha="center", va="center", fontsize=6, color="w" if dark else "k")
