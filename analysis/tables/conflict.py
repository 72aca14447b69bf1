"""Tables of conflict between the tasks' gradients, corrected for the noise of mini-batches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from cmtl_ir.measures.conflict import corrected_cosine
from cmtl_ir.measures.statistics import Interval, seed_interval

from ..data.measures import over_seeds
from ..data.study import Study
from .formats import Cell, Table, number, seeds_cell, with_ends, with_interval

if TYPE_CHECKING:
    import pandas as pd

UNMEASURABLE = "not measurable"


def conflict_table(study: Study) -> Table | None:
    """Return the table strategy x pair of rows, or `None` if no conflict was logged for two rows at once."""
    frame = study.frames.conflict
    rows = []
    for label in study.labels:
        own = frame[frame["label"] == label]
        for a, b in pairs(own):
            raw = own[(own["row_a"] == a) & (own["row_b"] == b)]["cosine"].dropna()
            found = corrected(own, a, b)
            cell = corrected_cell(found)
            share = float((raw < 0).mean()) if len(raw) else float("nan")
            rows.append([Cell(label), Cell(f"{a} – {b}"), number(len(raw), 0), number(raw.mean()), number(share), cell])
    if not rows:
        return None
    notes = [
        "Cosine < 0: the tasks' gradients conflict. A mini-batch's cosine shrinks towards 0 by sampling noise; the "
        "corrected one (halves of the batch, pooled over the run's logged steps) does not.",
        "[ ]: 95 % t-interval over seeds, or, with one seed, a block bootstrap over steps.",
    ]
    if any(row[-1].text == UNMEASURABLE for row in rows):
        notes.append(
            f"{UNMEASURABLE}: the gradient common to the batch's halves cannot be distinguished from noise, "
            "or the corrected value lies outside [-1, 1]; "
            "larger batches or a smaller conflict.every measure it."
        )
    headings = ["strategy", "pair", "steps logged", "cosine", "share < 0", "corrected cosine"]
    return Table("conflict", "Gradient conflict between tasks", headings, rows, notes, words=2)


def blocks_table(study: Study) -> Table | None:
    """Return the table strategy x block of parameters, or `None` if no block was logged."""
    found = of_blocks(study.frames.conflict_blocks)
    rows = [
        [Cell(label), Cell(block or "whole network"), *(number(value) for value in found.loc[label, block])]
        for label in study.labels
        for block in found.index.get_level_values("block").unique()
        if (label, block) in found.index
    ]
    if not any(block for _, block in found.index):
        return None
    notes = ["Means over pairs of rows, logged steps and seeds; blocks are those of `conflict.blocks`."]
    headings = ["strategy", "block", "cosine", "share < 0"]
    return Table("conflict_blocks", "Gradient conflict within blocks", headings, rows, notes, words=2)


def of_blocks(frame: pd.DataFrame) -> pd.DataFrame:
    """Return mean cosine and share of cosines below 0 by (label, block), first of the whole network."""
    own = frame[(frame["row_a"] != frame["row_b"]) & frame["cosine"].notna()]
    by_block = own.assign(negative=own["cosine"] < 0).groupby(["label", "block"])
    return by_block[["cosine", "negative"]].mean()


def corrected_cell(found: Interval) -> Cell:
    """Return the cell of a cosine, with its interval clipped to [-1, 1]."""
    if not math.isfinite(found.estimate):
        return Cell(UNMEASURABLE)
    if not found.reason:
        return with_ends(replace(found, low=max(found.low, -1.0), high=min(found.high, 1.0)))
    return Cell(f"{found.estimate:.2f} ({found.reason})", found.estimate)


def pairs(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of different rows in alphabetical order."""
    found = frame[frame["row_a"] != frame["row_b"]][["row_a", "row_b"]].drop_duplicates()
    return sorted(found.itertuples(index=False, name=None))


def corrected(frame: pd.DataFrame, a: str, b: str) -> Interval:
    """Return the noise-corrected cosine of two rows, the mean over the seeds in which it is measurable."""
    per_seed = [_of_seed(own, a, b) for _, own in frame.groupby("seed")]
    values = [one.estimate for one in per_seed if one.estimate == one.estimate]
    if len(per_seed) == 1:
        return per_seed[0]
    return seed_interval(values) if values else per_seed[0]


def _of_seed(frame: pd.DataFrame, a: str, b: str) -> Interval:
    series = {
        pair: frame[(frame["row_a"] == pair[0]) & (frame["row_b"] == pair[1])].set_index("step")["crossed"].dropna()
        for pair in ((a, b), (a, a), (b, b))
    }
    steps = sorted(set.intersection(*(set(one.index) for one in series.values())))
    return corrected_cosine(*(series[pair].loc[steps].to_numpy() for pair in ((a, b), (a, a), (b, b))))


def mean_cosines(frame: pd.DataFrame) -> pd.DataFrame:
    """Return [K, K] by row names: mean cosine of each pair over the frame's steps and seeds, NaN on the diagonal."""
    import pandas as pd

    names = sorted(set(frame["row_a"]) | set(frame["row_b"]))
    matrix = pd.DataFrame(float("nan"), index=names, columns=names)
    for row in frame.groupby(["row_a", "row_b"], as_index=False)["cosine"].mean().itertuples():
        if row.row_a != row.row_b:
            matrix.loc[row.row_a, row.row_b] = matrix.loc[row.row_b, row.row_a] = row.cosine
    return matrix


def rates_table(study: Study) -> Table | None:
    """Return the table of conflict rates per strategy, or `None` if no conflict was logged for two rows."""
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
        "steps. Pure sampling noise gives 0.50: read it next to the corrected cosines.",
        "rows harmed: share of rows whose loss on the next batch the optimizer's real step raised.",
        "most opposed: the pair with the lowest mean cosine.",
    ]
    headings = ["strategy", "seeds", "conflict rate", "rows harmed", "most opposed"]
    return Table("conflict_rates", "How often gradients conflict", headings, rows, notes)


def conflict_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of pairs with a cosine below 0 by step and (label, seed), without pairs with a zero row."""
    own = frame[(frame["row_a"] != frame["row_b"]) & frame["cosine"].notna()]
    shares = (own["cosine"] < 0).groupby([own["label"], own["seed"], own["step"]], sort=False).mean()
    return shares.unstack(["label", "seed"]).sort_index()


def harm(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the share of rows whose next batch the last weight change made worse, by step and (label, seed)."""
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
