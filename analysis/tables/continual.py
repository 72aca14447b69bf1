"""Table of mean, worst task, forgetting and transfer."""

from __future__ import annotations

from cmtl_ir.measures.scale import PSNR, Scale

from ..data import measures
from ..data.study import Study
from .formats import Cell, Table, seeds_cell, table_name, with_interval
from .notes import refusal


def measure_table(study: Study, scale: Scale) -> Table:
    """Return the table strategy x measure: mean and 95 % t-interval over seeds. Columns without values are left out."""
    found = {name: measures.over_seeds(study.measures_of(scale), name, "label") for name in measures.MEASURES}
    shown = [name for name in measures.MEASURES if found[name]]
    rows = [
        [
            Cell(label),
            seeds_cell(study.seeds[label]),
            *(with_interval(found[name].get(label), _digits(name, scale)) for name in shown),
        ]
        for label in study.labels
    ]
    headings = ["strategy", "seeds", *(measures.MEASURES[name] for name in shown)]
    notes = [*refusal(study), *(f"{measures.MEASURES[name]}: {measures.meaning(name, scale)}." for name in shown)]
    absent = [measures.MEASURES[name] for name in measures.MEASURES if name not in shown]
    if absent:
        notes.append(f"Not measurable here: {', '.join(absent)}.")
    notes.append("–: does not apply (a run of one stage has nothing to forget) or its reference is missing.")
    title = "Mean, worst task, forgetting and transfer"
    title = title if scale == PSNR else f"{scale.label}: {title[0].lower()}{title[1:]}"
    return Table(table_name("continual", scale), title, headings, rows, notes)


def _digits(measure: str, scale: Scale) -> int:
    """Return the digits of a measure: two for shares and percentages, or else those of the metric."""
    return 2 if measure in ("harm_rate", "delta_m_gain") else scale.digits
