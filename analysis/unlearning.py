"""The report of an unlearning request: one table, one figure, and restored images side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from cmtl_ir.base import escaping
from cmtl_ir.base.files import write_whole
from cmtl_ir.measures.scale import DEFAULT, PSNR
from cmtl_ir.measures.statistics import seed_interval
from cmtl_ir.unlearning.attack import over_seeds
from cmtl_ir.unlearning.report import NO_REFERENCE, Measured, Report, notes, verdict

from .figures.unlearning import overview, side_by_side
from .tables.formats import Cell, Table, comma_separated, latex, markdown, number, table_name, with_ends, with_interval

Value = Callable[[Measured], float | None]


def leave_report(report: Report) -> list[Path]:
    """Write table.csv, .md and .tex, verdict.md, overview.png/.pdf/.svg and restored-TASK.png ... next to the runs."""
    table, folder = forgetting_table(report), report.folder
    writers = {"csv": comma_separated, "md": markdown, "tex": latex}
    files = [folder / f"table.{kind}" for kind in writers]
    for file, write in zip(files, writers.values(), strict=True):
        write_whole(file, write(table))
    words = folder / "verdict.md"
    write_whole(words, in_words(report))
    files.append(words)
    for scale in report.scales:
        if scale == PSNR or scale not in DEFAULT:
            files += overview(report, folder / table_name("overview", scale), scale)
    for task in (*report.forget, *report.retain):
        files += side_by_side(report, task, folder / f"restored-{task}")
    return files


def in_words(report: Report) -> str:
    """Return the verdict on every method and the meaning of the figures as Markdown."""
    lines = [f"# {escaping.markdown(report.name)}: forget {escaping.markdown(', '.join(report.forget))}", ""]
    for label in report.labels:
        said = verdict(report, label) or ["nothing to object"]
        if not report.of(label)[0].is_original:
            lines.append(f"- **{escaping.markdown(label)}**: {escaping.markdown('; '.join(said))}")
    return (
        "\n".join([*lines, "", *(f"- {escaping.markdown_paragraph(note, code=True)}" for note in notes(report))]) + "\n"
    )


def forgetting_table(report: Report) -> Table:
    """Return the table of all measures, one row per method: mean and 95 % t-interval over seeds."""
    columns = _columns(report)
    headings = ["method", *columns, "membership AUC", "relearning steps", "steps", report.time_unit, "in words"]
    rows = [_untouched(report, len(headings))]
    for label in report.labels:
        models = report.of(label)
        cells = [_cell(value, models, digits) for value, digits in columns.values()]
        cells += [_attack(models), _relearning(report, models), *_cost(report, models)]
        rows.append([Cell(label), *cells, Cell("; ".join(verdict(report, label)))])
    named = ", ".join(scale.title for scale in report.scales if scale.unit)
    title = f"Without {', '.join(report.forget)}: {named}, output distance in levels of 255"
    return Table("unlearning", title, headings, rows, notes(report))


def _columns(report: Report) -> dict[str, tuple[Value, int]]:
    """Return heading -> (function of a model, digits), forgotten tasks first, then retained ones."""
    found: dict[str, tuple[Value, int]] = {}
    for task in (*report.forget, *report.retain):
        for scale in report.scales:
            found[f"{scale.label} {task}"] = (partial(Measured.score, task=task, scale=scale), scale.digits)
        for scale in report.scales:
            which = "" if scale == PSNR else f"{scale.label} "
            if task in report.retain:
                found[f"harm {which}{task}"] = (partial(report.harm, task=task, scale=scale), scale.digits)
            found[f"gap {which}{task}"] = (partial(report.gap, task=task, scale=scale), scale.digits)
    found["distance forget"] = (lambda one: _distance(one, report.forget), 2)
    found["distance retain"] = (lambda one: _distance(one, report.retain), 2)
    return found


def _distance(one: Measured, tasks: Sequence[str]) -> float | None:
    """Return the mean |output - output of the retrained model| over the tasks, in levels of 255.

    `None` if there is no retrained model.
    """
    if one.audit.distance is None:
        return None
    return 255.0 * sum(one.audit.distance[task] for task in tasks) / len(tasks)


def _cell(value: Value, models: Sequence[Measured], digits: int) -> Cell:
    found = [value(one) for one in models]
    known = [one for one in found if one is not None]
    return with_interval(seed_interval(known), digits) if len(known) == len(found) else Cell(NO_REFERENCE)


def _attack(models: Sequence[Measured]) -> Cell:
    found = over_seeds([one.audit.attack for one in models])
    return with_ends(found, 2) if math.isfinite(found.estimate) else Cell("too few")


def _relearning(report: Report, models: Sequence[Measured]) -> Cell:
    found = [one.audit.relearning for one in models if one.audit.relearning is not None]
    if not found:
        return Cell("–")
    steps = [one.steps for one in found]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps):
        late = f"in {len(steps) - len(known)} of {len(steps)}" if len(steps) > 1 else ""
        return Cell(f"> {report.budget} {late}".strip())
    return with_interval(seed_interval(known), 0)


def _cost(report: Report, models: Sequence[Measured]) -> list[Cell]:
    steps, times = [one.steps for one in models], [report.time_of(one) for one in models]
    return [number(sum(steps) / len(steps), 0), number(sum(times) / len(times), 0)]


def _untouched(report: Report, width: int) -> list[Cell]:
    """Return the row of the degraded images."""
    cells = dict.fromkeys(_columns(report), Cell("–"))
    for task in (*report.forget, *report.retain):
        for scale in report.scales:
            found = [one.result.get(f"{scale.name}_input", {}).get(task) for one in report.models]
            known = [value for value in found if value is not None]  # one value per seed if the test images rotate
            mean = sum(known) / len(known) if known else None
            cells[f"{scale.label} {task}"] = number(mean, scale.digits)
    row = [Cell("(degraded input)"), *cells.values()]
    return row + [Cell("–")] * (width - len(row))
