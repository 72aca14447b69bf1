"""Table of the significance of differences between trained models, over their test images."""

from __future__ import annotations

from cmtl_ir.measures.scale import PSNR, Scale

from ..data.significance import Verdict
from ..data.study import Study
from .formats import Cell, Table, number, p_cell, table_name, with_ends


def significance_table(study: Study, scale: Scale) -> Table | None:
    """Return the table of comparisons with the baseline: difference, interval over images, corrected p.

    `None` if no comparison was tested.
    """
    verdicts = study.verdicts(scale)
    if all(one.test.reason for one in verdicts.values()):
        return None
    rows = [[Cell(label), Cell(task), *_verdict_cells(one)] for (label, task), one in verdicts.items()]
    unit = scale.unit or scale.label
    headings = [
        "strategy", "task", "images", f"mean difference {unit}", f"median {unit}", "p", "p (Holm)", "over images",
    ]  # fmt: skip
    notes = [
        f"Strategy minus {study.baseline}, {scale.title}{'' if scale.higher_is_better else ' (lower is better)'}; the "
        "unit is an image (mean over its seeds and noise levels).",
        "[ ]: 95 % BCa bootstrap interval over images, where there are 20 or more.",
        f"p: two-sided paired Wilcoxon signed-rank test; Holm's correction for all {len(rows)} comparisons.",
        "What is tested is these trained weights, on images like these. Other seeds give other weights: whether the "
        "strategies differ is a question over seeds.",
    ]
    title = f"Over these images, for these weights: differences to {study.baseline}"
    title = title if scale == PSNR else f"{scale.label}: {title[0].lower()}{title[1:]}"
    return Table(table_name("significance", scale), title, headings, rows, notes, words=2)


def _verdict_cells(verdict: Verdict) -> list[Cell]:
    test, style = verdict.test, verdict.style
    word = f"significantly {style}" if style else test.reason or "not significant"
    digits = verdict.scale.digits
    difference = with_ends(verdict.difference, digits, style)
    return [
        number(verdict.difference.n, 0), difference, number(test.median_difference, digits), p_cell(test.p),
        p_cell(test.p_holm), Cell(word),
    ]  # fmt: skip
