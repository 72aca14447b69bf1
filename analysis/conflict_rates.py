"""How often the tasks' gradients pull against each other under each strategy, and how often a step harms a task."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cmtl_ir.statistics import seed_interval

from .conflict_table import pairs
from .formats import Cell, Table, number, with_interval
from .study import Study

if TYPE_CHECKING:
    import pandas as pd


def rates_table(study: Study) -> Table | None:
    """A strategy a line; None where no conflict was logged for two rows at once."""
    frame = study.frames.conflict
    rates, harmed = conflict_rate(frame), harm(frame)
    rows = []
    for label in study.labels:
        if label in rates.columns.get_level_values("label"):
            shares = [with_interval(seed_interval(_per_seed(one, label))) for one in (rates, harmed)]
            rows.append(
                [Cell(label), number(study.seeds[label], 0), *shares, _most_opposed(frame[frame["label"] == label])]
            )
    if not rows:
        return None
    notes = [
        "conflict rate: share of pairs of rows whose mini-batch gradients have a cosine below 0, mean over logged "
        "steps. Pure sampling noise gives 0.50: read it beside the corrected cosines.",
        "rows harmed: share of rows whose loss on the next batch the optimizer's real step raised.",
        "most opposed: the pair with the lowest mean cosine.",
    ]
    headings = ["strategy", "seeds", "conflict rate", "rows harmed", "most opposed"]
    return Table("conflict_rates", "How often gradients conflict", headings, rows, notes)


def conflict_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Index step, columns (label, seed): share of pairs with a cosine below 0; pairs with a zero row are left out."""
    own = frame[(frame["row_a"] != frame["row_b"]) & frame["cosine"].notna()]
    shares = (own["cosine"] < 0).groupby([own["label"], own["seed"], own["step"]], sort=False).mean()
    return shares.unstack(["label", "seed"]).sort_index()


def harm(frame: pd.DataFrame) -> pd.DataFrame:
    """Index step, columns (label, seed): share of rows whose next batch the last weight change made worse."""
    own = frame[(frame["row_a"] == frame["row_b"]) & frame["displacement"].notna()]
    shares = (own["displacement"] > 0).groupby([own["label"], own["seed"], own["step"]], sort=False).mean()
    return shares.unstack(["label", "seed"]).sort_index()


def _per_seed(shares: pd.DataFrame, label: str) -> list[float]:
    own = shares.loc[:, shares.columns.get_level_values("label") == label]
    return [float(value) for value in own.mean()]


def _most_opposed(frame: pd.DataFrame) -> Cell:
    means = [
        (float(frame[(frame["row_a"] == a) & (frame["row_b"] == b)]["cosine"].mean()), a, b) for a, b in pairs(frame)
    ]
    cosine, a, b = min(one for one in means if math.isfinite(one[0]))
    return Cell(f"{a} – {b} ({cosine:.2f})", cosine)
