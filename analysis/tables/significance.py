"""Table of the significance of differences between strategies."""

from __future__ import annotations

import math

from cmtl_ir.measures.scale import PSNR, Scale

from ..data.significance import Verdict
from ..data.study import Study
from .formats import NOTHING, Cell, Table, number, table_name, with_ends


def significance_table(study: Study, scale: Scale) -> Table | None:
    """Return the table of comparisons with the baseline: difference, interval over images, corrected p.

    `None` if no comparison was tested.
    """
    verdicts = study.verdicts(scale)
    if all(one.test.reason for one in verdicts.values()):
        return None
    rows = [[Cell(label), Cell(task), *_verdict_cells(one)] for (label, task), one in verdicts.items()]
    unit = scale.unit or scale.label
    headings = ["strategy", "task", "images", f"mean difference {unit}", f"median {unit}", "p", "p (Holm)", "verdict"]
    notes = [
        f"Strategy minus {study.baseline}, {scale.title}{'' if scale.higher_is_better else ' (lower is better)'}; the "
        "unit is an image (mean over its seeds and noise levels).",
        "[ ]: 95 % BCa bootstrap interval over images, where there are 20 or more.",
        f"p: two-sided paired Wilcoxon signed-rank test; Holm's correction for all {len(rows)} comparisons.",
    ]
    if any(study.seeds[label] == 1 for label in study.labels):
        notes.append("One seed: what is tested is these trained weights, not the strategy.")
    title = f"Differences to {study.baseline}" if scale == PSNR else f"{scale.label}: differences to {study.baseline}"
    return Table(table_name("significance", scale), title, headings, rows, notes, words=2)


def _verdict_cells(verdict: Verdict) -> list[Cell]:
    test, style = verdict.test, verdict.style
    word = f"significantly {style}" if style else test.reason or "not significant"
    digits = verdict.scale.digits
    difference = with_ends(verdict.difference, digits, style)
    return [
        number(verdict.difference.n, 0), difference, number(test.median_difference, digits), _p(test.p),
        _p(test.p_holm), Cell(word),
    ]  # fmt: skip


def _p(value: float) -> Cell:
    if math.isnan(value):
        return NOTHING
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
