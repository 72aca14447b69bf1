"""Tables of suites: what each strategy gains on test sets beyond its training range."""

from __future__ import annotations

from cmtl_ir.suites.blocks import BLOCKS
from cmtl_ir.suites.catalogue import SUITES
from cmtl_ir.suites.severity import NAME as SEVERITY
from cmtl_ir.suites.summary import Summary, beyond_gap, reach

from ..data.study import Study
from ..data.suites import of_strategies
from .formats import NOTHING, Cell, Table, number, with_interval

PREFIX = "suite_"
"""How the file names of these tables begin."""


def suite_tables(study: Study) -> list[Table]:
    """Return one table per suite that a strategy was scored on, and one of reach and gap for severities."""
    found = of_strategies(study)
    names = dict.fromkeys(one.suite for own in found.values() for one in own)
    tables = [_table(name, {label: [one for one in own if one.suite == name] for label, own in found.items()})
              for name in names]  # fmt: skip
    return [*tables, _reach_table(found)] if SEVERITY in names else tables


def _table(name: str, found: dict[str, list[Summary]]) -> Table:
    rows = [
        [Cell(label), Cell(one.block), Cell(one.task), Cell(one.line), Cell(one.answer), *_cells(one)]
        for block in BLOCKS
        for label, own in found.items()
        for one in own
        if one.block == block
    ]
    notes = [
        *([f"{SUITES[name].about}."] if name in SUITES else []),
        "gain: PSNR minus that of the degraded image, mean over images with its 95 % interval where there are enough; "
        "images are averaged over seeds first. harm: share of images, over all seeds, that are worse than the degraded "
        "ones. Ranges are never averaged together.",
        "none: one plain pass. self_ensemble: mean over the eight symmetries, at eight times the cost. single: the "
        "single-task run.",
    ]
    headings = ["strategy", "range", "task", "test", "answer", "images", "identity dB", "PSNR dB", "gain dB", "harm %"]
    return Table(f"{PREFIX}{name}", f"Suite {name}", headings, rows, notes, words=5)


def _cells(one: Summary) -> list[Cell]:
    return [
        number(one.images, 0), number(one.identity), number(one.score), with_interval(one.gain),
        number(100 * one.harm, 0),
    ]  # fmt: skip


def _reach_table(found: dict[str, list[Summary]]) -> Table:
    rows = []
    for label, own in found.items():
        graded = [one for one in own if one.suite == SEVERITY]
        for task, answer in dict.fromkeys((one.task, one.answer) for one in graded):
            levels = [one for one in graded if (one.task, one.answer) == (task, answer)]
            ends = reach({one.level: one.gain.estimate for one in levels if one.level is not None})
            gap = beyond_gap(levels)
            rows.append([Cell(label), Cell(task), Cell(answer), Cell(ends), NOTHING if gap is None else number(gap)])
    notes = [
        "reach: the first severity whose mean gain is below 0; 5+: none. beyond gap: mean gain inside the training "
        "range minus that beyond it, over severities; no value where one of them is empty.",
    ]
    headings = ["strategy", "task", "answer", "reach", "beyond gap dB"]
    return Table(f"{PREFIX}reach", "Reach over severities", headings, rows, notes, words=4)
