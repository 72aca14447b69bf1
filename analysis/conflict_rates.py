"""How often the tasks' gradients pull against each other under each strategy, and how often a step harms a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cmtl_ir.statistics import Interval

from .formats import Cell, Table, seeds_cell, with_interval
from .measures import over_seeds
from .study import Study

if TYPE_CHECKING:
    import pandas as pd


def rates_table(study: Study) -> Table | None:
    """A strategy a line; None where no conflict was logged for two rows at once."""
    frame = study.frames.conflict
    rates, harmed = (_over_seeds(shares) for shares in (conflict_rate(frame), harm(frame)))
    rows = [
        [
            Cell(label),
            seeds_cell(study.seeds[label]),
            with_interval(rates[label]),
            with_interval(harmed.get(label)),
            _most_opposed(frame[frame["label"] == label]),
        ]
        for label in study.labels
        if label in rates
    ]
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


def _over_seeds(shares: pd.DataFrame) -> dict[str, Interval]:
    return over_seeds(shares.mean().rename("share").reset_index(), "share", "label")


def _most_opposed(frame: pd.DataFrame) -> Cell:
    own = frame[frame["row_a"] != frame["row_b"]]
    cosines = own.groupby(["row_a", "row_b"])["cosine"].mean().dropna()
    lowest = int(cosines.argmin())
    a, b = cosines.index[lowest]
    return Cell(f"{a} – {b} ({cosines.iloc[lowest]:.2f})", float(cosines.iloc[lowest]))
