"""Table of the cost of training."""

from __future__ import annotations

from cmtl_ir.measures.statistics import Interval

from ..data import measures
from ..data.study import Study
from .formats import Cell, Table, number, seeds_cell, with_interval


def cost_table(study: Study) -> Table:
    """Return the table strategy x parameters, steps, time per step and peak memory."""
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
