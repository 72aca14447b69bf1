"""All tables of a report, and the table of scores."""

from __future__ import annotations

from collections.abc import Mapping

from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Interval

from ..data import measures
from ..data.significance import MEAN, Verdict
from ..data.study import Study
from .conflict import blocks_table, conflict_table, rates_table
from .continual import measure_table
from .cost import cost_table
from .formats import NOTHING, Cell, Style, Table, number, seeds_cell, with_interval
from .grouping import group_table
from .notes import reference_notes, refusal, score_notes
from .resolution import resolution_table
from .significance import significance_table
from .suites import suite_tables
from .training import training_table
from .tuning import tuning_table

FIRST = (PSNR.name, "continual", "resolution", "significance")
"""Tables of a report that come before those of cost, conflict and further metrics."""


def all_tables(study: Study) -> list[Table]:
    """Return all tables that the study has data for: PSNR first, then the common ones, then each further metric."""
    by_metric = [table for scale in study.scales for table in _of_metric(study, scale)]
    first = [table for table in by_metric if table.name in FIRST]
    others = [table for table in by_metric if table not in first]
    further = (tuning_table, training_table, group_table, rates_table, conflict_table, blocks_table)
    found = [table for make in further if (table := make(study)) is not None]
    return [*first, cost_table(study), *found, *suite_tables(study), *others]


def _of_metric(study: Study, scale: Scale) -> list[Table]:
    tested = (resolution_table(study, scale), significance_table(study, scale))
    return [score_table(study, scale), measure_table(study, scale), *(table for table in tested if table is not None)]


def score_table(study: Study, scale: Scale) -> Table:
    """Return the table strategy x task of final scores: mean and 95 % t-interval over seeds."""
    digits, column = scale.digits, scale.name
    tasks, table = study.frames.tasks, study.scores
    cells = measures.over_seeds(table, column, ["label", "task"])
    averages = measures.over_seeds(
        table.groupby(["label", "seed"], sort=False)[column].mean().reset_index(), column, "label"
    )
    verdicts = study.verdicts(scale)
    rows = [_input_row(study, column, digits)]
    for label in study.labels:
        shown = [with_interval(cells.get((label, task)), digits, _style(verdicts, label, task)) for task in tasks]
        shown.append(with_interval(averages.get(label), digits, _style(verdicts, label, MEAN)))
        rows.append([Cell(label), seeds_cell(study.seeds[label]), *shown])
    references = measures.reference_scores(study.frames, column)
    if references:
        rows.append(_reference_row(study, references, digits))
    notes = [*refusal(study), *score_notes(study, scale), *reference_notes(study, references)]
    return Table(column, f"{scale.title} per task", ["strategy", "seeds", *tasks, "mean"], rows, notes)


def _input_row(study: Study, column: str, digits: int) -> list[Cell]:
    competing = study.scores[study.scores["label"].isin(study.labels)]
    means = competing.drop_duplicates(["task", "seed"]).groupby("task")[f"{column}_input"].mean()
    shown = [number(means.get(task), digits) for task in study.frames.tasks]
    return [Cell("(degraded input)"), NOTHING, *shown, number(float(means.mean()), digits)]


def _reference_row(study: Study, references: Mapping[str, Interval], digits: int) -> list[Cell]:
    tasks = study.frames.tasks
    counts = {references[task].n for task in tasks if task in references}
    shown = [with_interval(references.get(task), digits) for task in tasks]
    whole = all(task in references for task in tasks)
    mean = number(sum(references[task].estimate for task in tasks) / len(tasks), digits) if whole else NOTHING
    seeds = "–".join(str(count) for count in sorted({min(counts), max(counts)}))
    return [Cell("(single-task runs)"), Cell(seeds, min(counts)), *shown, mean]


def _style(verdicts: Mapping[tuple[str, str], Verdict], label: str, task: str) -> Style:
    found = verdicts.get((label, task))
    return found.style if found else ""
