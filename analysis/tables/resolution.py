"""Table of the differences over seeds, and of how small a difference these seeds could have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.seeds import SeedDifference, seeds_needed

from ..data.study import Study
from .formats import NOTHING, Cell, Style, Table, number, p_cell, seeds_cell, table_name, with_interval

WANTED = (0.1, 0.2, 0.5)
"""Differences in dB for which the table gives the seeds that they need."""


def resolution_table(study: Study, scale: Scale = PSNR) -> Table | None:
    """Return the table of each strategy's difference to the baseline over seeds, mean over tasks.

    `None` if no strategy shares two seeds with the baseline.
    """
    return table_of(study.over_seeds(scale), study.baseline, scale)


def table_of(found: Mapping[str, SeedDifference], baseline: str, scale: Scale = PSNR) -> Table | None:
    """Return the table of strategy -> difference to the baseline. `None` if none of them has two seeds."""
    if all(len(one.seeds) < 2 for one in found.values()):
        return None
    wanted = WANTED if scale == PSNR else ()
    rows = [[Cell(label), *_cells(one, scale, wanted)] for label, one in found.items()]
    unit = scale.unit or scale.label
    headings = [
        "strategy", "seeds", f"difference {unit}", f"SD {unit}", f"detectable {unit}",
        *(f"seeds for {one:g} {unit}" for one in wanted), "p", "p (Holm)", "over seeds",
    ]  # fmt: skip
    title = f"Over seeds: differences to {baseline}, and how small a difference these seeds detect"
    title = title if scale == PSNR else f"{scale.label}: {title[0].lower()}{title[1:]}"
    return Table(table_name("resolution", scale), title, headings, rows, _notes(found, baseline, scale))


def _cells(one: SeedDifference, scale: Scale, wanted: tuple[float, ...]) -> list[Cell]:
    style = style_of(one, scale)
    needed = [number(seeds_needed(one.sd, size), 0) if math.isfinite(one.sd) else NOTHING for size in wanted]
    word = f"significantly {style}" if style else one.reason or "not significant"
    return [
        seeds_cell(len(one.seeds)), with_interval(one.difference, scale.digits, style), number(one.sd, scale.digits),
        number(one.detectable, scale.digits), *needed, p_cell(one.p), p_cell(one.p_holm), Cell(word),
    ]  # fmt: skip


def style_of(one: SeedDifference, scale: Scale = PSNR) -> Style:
    """Return `better` or `worse` if the difference is significant over seeds, or else empty."""
    if not one.significant:
        return ""
    return "better" if scale.sign * one.difference.estimate > 0 else "worse"


def _notes(found: Mapping[str, SeedDifference], baseline: str, scale: Scale) -> list[str]:
    notes = [
        f"Strategy minus {baseline} with the same seed, {scale.title}, mean over tasks; ± is the half-width of the "
        "95 % t-interval over seeds, and SD the standard deviation of the difference between seeds.",
        "detectable: smallest true difference that a two-sided paired t-test at 5 % over these seeds finds with 80 % "
        "power. The SD is itself estimated from these seeds: with few of them it is rough.",
        f"p: two-sided paired t-test over seeds; Holm's correction for all {len(found)} strategies.",
    ]
    if scale == PSNR:
        notes.insert(2, "seeds for 0.1, 0.2, 0.5 dB: seeds that detect such a difference with 80 % power.")
    return notes
