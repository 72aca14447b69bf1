"""Table of the cost of training."""

from __future__ import annotations

from cmtl_ir.measures.statistics import Interval

from ..data import measures
from ..data.cost import WALL, clock_of
from ..data.study import Study
from .formats import Cell, Table, number, seeds_cell, with_interval

PEAK = (
    "Peak memory during the steps: of tensors on a GPU; elsewhere the resident memory of the process, with data, "
    "libraries, row gradients, and freed memory that is kept for reuse."
)


def cost_table(study: Study) -> Table:
    """Return the table strategy x parameters, steps, time and passes per step, and peak memory."""
    cost, clock = study.frames.cost, clock_of(study)
    per_step = measures.over_seeds(cost, clock.column, "label")
    base = per_step.get(study.baseline)
    rows = []
    for label in study.labels:
        own = cost[cost["label"] == label]
        relative = per_step[label].estimate / base.estimate if base and label in per_step else None
        cells = [
            number(own["parameters"].max(), 0), number(own["steps"].max(), 0),
            with_interval(_scaled(per_step.get(label), 1e3), 1), number(relative),
            *(number(own[column].mean()) for column in ("forward_passes", "backward_passes")),
        ]  # fmt: skip
        if clock != WALL:
            wall = measures.over_seeds(own, WALL.column, "label").get(label)
            cells.append(with_interval(_scaled(wall, 1e3), 1))
        memory = measures.over_seeds(own, "peak_memory_mb", "label").get(label)
        rows.append([Cell(label), seeds_cell(study.seeds[label]), *cells, with_interval(memory, 0)])
    headings = [
        "strategy", "seeds", "parameters", "steps", f"{clock.unit} per step", f"{clock.unit} / {study.baseline}",
        "forward passes", "backward passes", *(["wall ms per step"] if clock != WALL else []), "peak memory MB",
    ]  # fmt: skip
    return Table("cost", "Cost of training", headings, rows, _cost_notes(study))


def _scaled(found: Interval | None, factor: float) -> Interval | None:
    if found is None:
        return None
    return Interval(found.estimate * factor, found.low * factor, found.high * factor, found.n, found.reason)


def _cost_notes(study: Study) -> list[str]:
    cost, clock = study.frames.cost, clock_of(study)
    cost = cost[cost["label"].isin(study.labels)]
    devices = sorted(set(cost["device"]) - {""})
    notes = [f"Computed on {', '.join(devices)}."] if devices else []
    if len(devices) > 1:
        notes.append("Several devices: the times are not comparable.")
    notes.append(f"{clock.unit} per step: {clock.meaning}.")
    if (cost["timed"] == "run").any():
        notes.append("The wall time is that of a whole run, evaluations and checkpoints included, by its steps.")
    if cost["forward_passes"].notna().any():
        notes.append(
            "forward and backward passes: samples that passed through a network in a step, by the samples of the batch."
        )
    if cost["peak_memory_mb"].isna().all():
        notes.append("Peak memory was not recorded.")
    else:
        notes.append(PEAK)
    return notes
