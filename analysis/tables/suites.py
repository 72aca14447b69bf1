"""Tables of suites: what each strategy gains on test sets beyond its training range."""

from __future__ import annotations

from cmtl_ir.suites.blocks import BLOCKS
from cmtl_ir.suites.catalogue import SUITES
from cmtl_ir.suites.severity import NAME as SEVERITY
from cmtl_ir.suites.summary import EPISODIC, Summary, beyond_gap, kinds_of, of_kind, reach

from ..data.study import Study
from ..data.suites import of_strategies
from .formats import NOTHING, Cell, Table, number, with_interval

PREFIX = "suite_"
"""How the file names of these tables begin."""


KIND_NOTES = {
    EPISODIC: "Other answers are adapters that start from the trained weights at each image.",
    "online": "Other answers are adapters whose weights go on from image to image: means over keyed orders.",
    "two passes": "Other answers are adapters that have seen all images before they are scored on them (transductive).",
}


def suite_tables(study: Study) -> list[Table]:
    """Return one table per suite and kind of adapter that a strategy was scored on, and one of reach and gap."""
    found = of_strategies(study)
    tables = []
    for name in dict.fromkeys(one.suite for own in found.values() for one in own):
        here = {label: [one for one in own if one.suite == name] for label, own in found.items()}
        for kind in kinds_of([one for own in here.values() for one in own]):
            tables.append(_table(name, kind, {label: of_kind(own, kind) for label, own in here.items()}))
    return (
        [*tables, _reach_table(found)]
        if any(one.suite == SEVERITY for own in found.values() for one in own)
        else tables
    )


def _table(name: str, kind: str, found: dict[str, list[Summary]]) -> Table:
    rows = [
        [Cell(label), Cell(one.block), Cell(one.task), Cell(one.line), Cell(one.answer), *_cells(one)]
        for block in BLOCKS
        for label, own in found.items()
        for one in own
        if one.block == block
    ]
    headings = ["strategy", "range", "task", "test", "answer", "images", "identity dB", "PSNR dB", "gain dB", "harm %"]
    if kind == EPISODIC:
        return Table(f"{PREFIX}{name}", f"Suite {name}", headings, rows, _notes(name, kind), words=5)
    title = f"Suite {name}, {kind} adapters"
    return Table(f"{PREFIX}{name}_{kind.replace(' ', '_')}", title, headings, rows, _notes(name, kind), words=5)


def _notes(name: str, kind: str) -> list[str]:
    about = [f"{SUITES[name].about}."] if name in SUITES else []
    return [
        *about,
        "gain: PSNR minus that of the degraded image, mean over images with its 95 % interval where there are enough; "
        "images are averaged over seeds first. harm: share of images, over all seeds, that are worse than the degraded "
        "ones. Ranges are never averaged together.",
        "none: one plain pass. self_ensemble: mean over the eight symmetries, at eight times the cost. single: the "
        f"single-task run. {KIND_NOTES[kind]}",
    ]


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
