"""Table of a tuned comparison: every strategy at its default and at its best, and what tuning it cost."""

from __future__ import annotations

import csv
from collections.abc import Mapping

from cmtl_ir.measures.statistics import seed_interval
from cmtl_ir.store.layout import TUNING

from ..data import measures
from ..data.study import Study
from .formats import NOTHING, Cell, Table, number, with_interval


def tuning_table(study: Study) -> Table | None:
    """Return the table strategy x default, best, their scores and the cost, or `None` if nothing was tuned."""
    rows = rows_of(study)
    if not rows:
        return None
    headings = ["strategy", "default", "best", "mean PSNR default", "mean PSNR tuned", "tuned - default", "trials",
                "CPU s of tuning"]  # fmt: skip
    objective = rows[0]["objective"]
    notes = [
        f"Every strategy had {' or '.join(dict.fromkeys(row['trials'] for row in rows))} trials, chosen by {objective} "
        "on validation images and on seeds of their own. The scores here are of test images and of fresh seeds.",
        "tuned - default: mean over seeds of the paired difference in dB, with its 95 % t-interval.",
        "CPU s: processor seconds of the trials over all threads, without what killed processes lost.",
    ]
    return Table("tuning", "Default and tuned", headings, [_row(study, row) for row in rows], notes, words=3)


def rows_of(study: Study) -> list[dict[str, str]]:
    """Return the rows of tuning.csv whose strategy competes. Empty if nothing was tuned."""
    file = study.frames.source.file(TUNING)
    if file is None:
        return []
    with file.open(newline="") as opened:
        return [row for row in csv.DictReader(opened) if {row["strategy"], row["tuned"]} & set(study.labels)]


def _row(study: Study, row: Mapping[str, str]) -> list[Cell]:
    table = study.measures
    scores = measures.over_seeds(table, "average", "label")
    both = [table[table["label"] == row[side]].set_index("seed")["average"] for side in ("tuned", "strategy")]
    gains = (both[0] - both[1]).dropna()
    shown = [with_interval(scores.get(row[side])) for side in ("strategy", "tuned")]
    gain = with_interval(seed_interval(gains)) if len(gains) else NOTHING
    words = [Cell(row["strategy"]), Cell(row["default"]), Cell(row["best"])]
    return [*words, *shown, gain, number(float(row["trials"]), 0), number(float(row["cpu_seconds"]), 0)]
