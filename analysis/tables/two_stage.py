"""Table of the intervals of Stein's two-stage procedure."""

from __future__ import annotations

import math

from cmtl_ir.measures.seeds import two_stage_interval
from cmtl_ir.runs.two_stage import Scores, SeedPlan

from .formats import Cell, Table, number, seeds_cell, with_interval


def two_stage_table(plan: SeedPlan, scores: Scores) -> Table | None:
    """Return the table of each strategy's difference to the baseline. `None` if no strategy has all its seeds."""
    whole = [
        label
        for label in plan.spread
        if all(seed in scores.get(one, {}) for one in (label, plan.baseline) for seed in plan.seeds(label))
    ]
    if not whole:
        return None
    rows = [_row(plan, scores, label) for label in whole]
    aim = plan.aim
    notes = [
        f"Strategy minus {plan.baseline} with the same seed, PSNR in dB, mean over tasks; pilot: seeds "
        f"{', '.join(map(str, plan.pilot))}; aim: a half-width of {aim.half_width:g} dB.",
        "±: Stein's 95 % interval, from the pilot's SD and degrees of freedom. Its coverage is exact for normal "
        "differences. The t-intervals of the report, of all seeds, are narrower and cover a little less.",
    ]
    missed = [label for label in whole if plan.needed(label) > plan.count(label)]
    if missed:
        notes.append(f"{', '.join(missed)}: --max-seeds {aim.max_seeds} ended before the aim was reached.")
    headings = ["strategy", "seeds", "difference dB", "pilot SD dB", "seeds asked for"]
    return Table("two_stage", f"Two-stage comparison with {plan.baseline}", headings, rows, notes)


def _row(plan: SeedPlan, scores: Scores, label: str) -> list[Cell]:
    own, theirs, seeds = scores[label], scores[plan.baseline], plan.seeds(label)
    differences = [own[seed] - theirs[seed] for seed in seeds]
    found = two_stage_interval(differences[: len(plan.pilot)], differences[len(plan.pilot) :])
    digits = 2 if plan.aim.half_width >= 0.1 else 2 + math.ceil(-math.log10(plan.aim.half_width)) - 1
    return [
        Cell(label), seeds_cell(len(seeds)), with_interval(found, digits), number(plan.spread[label], 3),
        number(plan.needed(label), 0),
    ]  # fmt: skip
