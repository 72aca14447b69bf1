"""The tables of a report: scores, what was forgotten, cost, significance."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cmtl_ir.measures.statistics import LEVEL, Interval

from ..data import measures
from ..data.significance import MEAN, Verdict, why_untested
from ..data.study import Study
from .formats import NOTHING, Cell, Style, Table, number, seeds_cell, with_ends, with_interval
from .grouping import group_table


def all_tables(study: Study) -> list[Table]:
    """Every table that this study has data for, in the order of reading."""
    made = [score_table(study, "psnr"), score_table(study, "ssim"), measure_table(study)]
    if any(not one.test.reason for one in study.psnr_verdicts.values()):
        made.append(significance_table(study))
    made.append(cost_table(study))
    grouped = group_table(study)
    made += [grouped] if grouped is not None else []
    from .conflict import blocks_table, conflict_table, rates_table

    conflict = (rates_table(study), conflict_table(study), blocks_table(study))
    return [*made, *(table for table in conflict if table is not None)]


# --------------------------------------------------------------------------------------------------------- scores


def score_table(study: Study, column: str) -> Table:
    """Strategy x task: final scores, mean and 95 % t-interval over seeds."""
    digits, unit = (2, "PSNR in dB") if column == "psnr" else (4, "SSIM")
    tasks, table = study.frames.tasks, study.scores
    cells = measures.over_seeds(table, column, ["label", "task"])
    averages = measures.over_seeds(
        table.groupby(["label", "seed"], sort=False)[column].mean().reset_index(), column, "label"
    )
    verdicts = study.psnr_verdicts if column == "psnr" else study.ssim_verdicts
    rows = [_input_row(study, column, digits)]
    for label in study.labels:
        shown = [with_interval(cells.get((label, task)), digits, _style(verdicts, label, task)) for task in tasks]
        shown.append(with_interval(averages.get(label), digits, _style(verdicts, label, MEAN)))
        rows.append([Cell(label), seeds_cell(study.seeds[label]), *shown])
    references = measures.reference_scores(study.frames, column)
    if references:
        rows.append(_reference_row(study, references, digits))
    notes = [*_refusal(study), *_score_notes(study, verdicts), *_reference_notes(study, references)]
    return Table(column, f"{unit} per task", ["strategy", "seeds", *tasks, "mean"], rows, notes)


def _input_row(study: Study, column: str, digits: int) -> list[Cell]:
    competing = study.scores[study.scores["label"].isin(study.labels)]
    means = competing.drop_duplicates("task").set_index("task")[f"{column}_input"]
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


def _refusal(study: Study) -> list[str]:
    return [f"Not ranked, nothing tested: {'; '.join(study.reasons)}"] if study.reasons else []


def _score_notes(study: Study, verdicts: Mapping[tuple[str, str], Verdict]) -> list[str]:
    notes = [f"{_tested_on(study)}, metric protocol {study.protocol or 'not recorded'}."]
    if any(count > 1 for count in study.seeds.values()):
        notes.append("± is the half-width of the 95 % t-interval over seeds.")
    if any(count == 1 for count in study.seeds.values()):
        notes.append("One seed: no interval over seeds; another seed may order the strategies otherwise.")
    return [*notes, *_test_notes(study, verdicts)]


def _tested_on(study: Study) -> str:
    """Which pixels were scored: a crop or a share of the images is said."""
    images = study.frames.images[study.frames.images["label"].isin(study.labels)]
    counts = images.groupby("task")["image"].nunique()
    counted = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    data = study.frames.experiment.get("data", {})
    crop, limit = data.get("test_crop"), data.get("test_limit")
    shown = f"centre crops of {crop} pixels of {counted}" if crop else counted
    return f"{shown[0].upper()}{shown[1:]} {'' if crop else 'whole '}test images a task" + (
        f" (the first {limit} of each set at most)" if limit else ""
    )


def _test_notes(study: Study, verdicts: Mapping[tuple[str, str], Verdict]) -> list[str]:
    if not verdicts:
        return []
    untested = sorted({one.test.reason for one in verdicts.values() if one.test.reason})
    if all(one.test.reason for one in verdicts.values()):
        return [f"No significance, so no bold: {why_untested(verdicts.values())}."]
    images = sorted({one.difference.n for one in verdicts.values()})
    span = f"{images[0]} to {images[-1]}" if len(images) > 1 else f"{images[0]}"
    note = (
        f"Bold: significantly better than {study.baseline}; italics: significantly worse (paired Wilcoxon test over "
        f"{span} images, Holm's correction for {len(verdicts)} comparisons, p ≤ {1 - LEVEL:.2f})."
    )
    return [note, *(f"Not tested in part: {reason}." for reason in untested)]


def _reference_notes(study: Study, references: Mapping[str, Interval]) -> list[str]:
    if not references:
        return []
    steps = {
        study.frames.steps.get(member.run)
        for members in measures.single_runs(study.frames).values()
        for member in members.values()
    }
    counted = " or ".join(f"{step:,}" for step in sorted(step for step in steps if step))
    return [f"(single-task runs): each task from a model of its own, trained {counted} steps on it alone."]


# ------------------------------------------------------------------------------------- forgetting and its kin


def measure_table(study: Study) -> Table:
    """Strategy x measure: mean and 95 % t-interval over seeds; columns without any value are left out."""
    found = {name: measures.over_seeds(study.measures, name, "label") for name in measures.MEASURES}
    shown = [name for name in measures.MEASURES if found[name]]
    rows = [
        [Cell(label), seeds_cell(study.seeds[label]), *(with_interval(found[name].get(label)) for name in shown)]
        for label in study.labels
    ]
    headings = ["strategy", "seeds", *(measures.MEASURES[name][0] for name in shown)]
    notes = [*_refusal(study), *("{}: {}.".format(*measures.MEASURES[name]) for name in shown)]
    absent = [measures.MEASURES[name][0] for name in measures.MEASURES if name not in shown]
    if absent:
        notes.append(f"Not measurable here: {', '.join(absent)}.")
    notes.append("–: does not apply (a run of one stage has nothing to forget) or its reference is missing.")
    return Table("continual", "Mean, worst task, forgetting and transfer", headings, rows, notes)


# ------------------------------------------------------------------------------------------------------------ cost


def cost_table(study: Study) -> Table:
    """Strategy x cost."""
    cost = study.frames.cost
    per_step = measures.over_seeds(cost, "seconds_per_step", "label")
    base = per_step.get(study.baseline)
    rows = []
    for label in study.labels:
        own = cost[cost["label"] == label]
        milliseconds = _scaled(per_step.get(label), 1e3)
        relative = per_step[label].estimate / base.estimate if base and label in per_step else None
        cells = [number(own["parameters"].max(), 0), number(own["steps"].max(), 0), with_interval(milliseconds, 1)]
        memory = measures.over_seeds(own, "peak_memory_mb", "label").get(label)
        rows.append([Cell(label), seeds_cell(study.seeds[label]), *cells, number(relative), with_interval(memory, 0)])
    headings = ["strategy", "seeds", "parameters", "steps", "ms per step", f"ms / {study.baseline}", "peak memory MB"]
    return Table("cost", "Cost of training", headings, rows, _cost_notes(study))


def _scaled(found: Interval | None, factor: float) -> Interval | None:
    if found is None:
        return None
    return Interval(found.estimate * factor, found.low * factor, found.high * factor, found.n, found.reason)


def _cost_notes(study: Study) -> list[str]:
    cost = study.frames.cost
    cost = cost[cost["label"].isin(study.labels)]
    devices = sorted(set(cost["device"]) - {""})
    notes = [f"Computed on {', '.join(devices)}."] if devices else []
    if len(devices) > 1:
        notes.append("Several devices: the times are not comparable.")
    if (cost["timed"] == "run").any():
        notes.append("ms per step is the wall time of a whole run, evaluations and checkpoints included, by its steps.")
    else:
        notes.append(
            "ms per step is the wall time of the optimizer steps alone; what else the machine did shows in it."
        )
    if cost["peak_memory_mb"].isna().all():
        notes.append("Peak memory was not recorded (it is on CUDA devices only).")
    return notes


# ---------------------------------------------------------------------------------------------------- significance


def significance_table(study: Study) -> Table:
    """Every comparison of PSNR with the baseline: difference, interval over images, corrected p."""
    rows = [[Cell(label), Cell(task), *_verdict_cells(one)] for (label, task), one in study.psnr_verdicts.items()]
    headings = ["strategy", "task", "images", "mean difference dB", "median dB", "p", "p (Holm)", "verdict"]
    notes = [
        f"Strategy minus {study.baseline}, PSNR in dB; the unit is an image (mean over its seeds and noise levels).",
        "[ ]: 95 % BCa bootstrap interval over images, where there are 20 or more.",
        f"p: two-sided paired Wilcoxon signed-rank test; Holm's correction for all {len(rows)} comparisons.",
    ]
    if any(study.seeds[label] == 1 for label in study.labels):
        notes.append("One seed: what is tested is these trained weights, not the strategy.")
    return Table("significance", f"Differences to {study.baseline}", headings, rows, notes, words=2)


def _verdict_cells(verdict: Verdict) -> list[Cell]:
    test, style = verdict.test, verdict.style
    word = f"significantly {style}" if style else test.reason or "not significant"
    difference = with_ends(verdict.difference, 2, style)
    return [
        number(verdict.difference.n, 0), difference, number(test.median_difference), _p(test.p), _p(test.p_holm),
        Cell(word),
    ]  # fmt: skip


def _p(value: float) -> Cell:
    if math.isnan(value):
        return NOTHING
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
