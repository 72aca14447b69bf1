"""Gradient conflict between the rows of a step: measures of a Gramian, and their log over a run.

Shapes: K rows, H half-rows ("pieces": a row's micro-batch is cut in two if it has two samples), T logged steps.
Sampling noise shrinks the cosine of mini-batches towards 0. The two halves of a row show how much of its norm is
signal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmtl_ir.base.files import write_table
from cmtl_ir.measures.statistics import Interval, pooled_ratio, ratio_of_sums

Array = NDArray[np.float64]

WINDOW = 20  # number of logged steps pooled by the corrected cosine of a running curve
CUT = 1e-12  # eigenvalues below CUT * largest count as 0


# ------------------------------------------------------------------------------------ measures of one Gramian


def cosines(gramian: Array) -> Array:
    """Return the cosines [K, K] of a Gramian [K, K]. NaN for a zero row."""
    norms = np.sqrt(np.diag(gramian))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = gramian / norms[:, None] / norms
    return np.clip(cosine, -1.0, 1.0)


def magnitude_similarity(gramian: Array) -> Array:
    """Return 2 |a| |b| / (|a|^2 + |b|^2) in [0, 1], [K, K] (Yu et al. 2020, Def. 2). NaN for two zero rows."""
    squares = np.diag(gramian)
    with np.errstate(invalid="ignore"):
        return 2.0 * np.sqrt(squares[:, None]) * np.sqrt(squares) / (squares[:, None] + squares)


def curvature_bound(gramian: Array) -> Array:
    """Return (1 - cos^2) |a - b|^2 / |a + b|^2, [K, K] (Yu et al. 2020, Def. 3). NaN for 0/0."""
    squares = np.diag(gramian)
    sums = squares[:, None] + squares
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1.0 - cosines(gramian) ** 2) * (sums - 2.0 * gramian) / (sums + 2.0 * gramian)


def condition_number(gramian: Array) -> float:
    """Return sqrt(largest / smallest eigenvalue), the condition number of the rows. inf below the cut."""
    values = np.linalg.eigvalsh(gramian / max(np.trace(gramian), np.finfo(float).tiny))
    return math.sqrt(values[-1] / values[0]) if values[0] > CUT * values[-1] else math.inf


def conflict_rate(gramian: Array) -> float:
    """Return the share of pairs of rows with a negative cosine. Pairs with a zero row are left out."""
    pairs = off_diagonal(cosines(gramian))
    pairs = pairs[~np.isnan(pairs)]
    return float((pairs < 0).mean()) if len(pairs) else math.nan


def off_diagonal(matrix: Array) -> Array:
    """Return every pair of a matrix [K, K] once, [K (K - 1) / 2]."""
    return matrix[np.triu_indices(len(matrix), 1)]


def harm(displacement: Array) -> float:
    """Return the share of rows that the last step made worse: <theta_{t+1} - theta_t, g_k of batch t+1> > 0. Takes [K].

    The gradients are those of the next batch. On the batch of the step itself, the measure is biased towards 0.
    """
    return float((displacement > 0).mean())


# --------------------------------------------------------------------------------------- halves of the rows


def gathering(rows: int, pieces: Sequence[tuple[int, int]]) -> Array:
    """Return the matrix [rows, H] from the pieces' to the rows' mean gradients. `pieces`: (row, samples) of each."""
    matrix = np.zeros((rows, len(pieces)))
    for piece, (row, samples) in enumerate(pieces):
        matrix[row, piece] = samples
    return matrix / matrix.sum(axis=1, keepdims=True)


def crossed_products(gramian: Array, rows: int, pieces: Sequence[tuple[int, int]]) -> Array:
    """Return (<a1, b2> + <a2, b1>) / 2 of the halves 1, 2 of rows a, b, [K, K]. The diagonal <a1, a2> is the signal.

    The products are free of the noise that two rows on the same clean images share, if first and second halves show
    different images. NaN for a row of one piece.
    """
    halves = np.zeros((2, rows, len(pieces)))
    for row in range(rows):
        own = [piece for piece, (owner, _) in enumerate(pieces) if owner == row]
        if len(own) == 2:
            halves[0, row, own[0]] = halves[1, row, own[1]] = 1.0
        else:
            halves[:, row] = np.nan
    with np.errstate(invalid="ignore"):
        first_second = halves[0] @ gramian @ halves[1].T
    return (first_second + first_second.T) / 2.0


# ------------------------------------------------------------------------------------ noise-corrected cosine


ROUNDING = 1e-6
"""A cosine may exceed 1 by this much, because its sums are rounded."""
OUTSIDE: dict[str, Any] = {
    "estimate": math.nan,
    "low": math.nan,
    "high": math.nan,
    "reason": "not measurable: outside [-1, 1]",
}


def corrected_cosine(products: Array, signals_a: Array, signals_b: Array) -> Interval:
    """Return sum <a, b> / sqrt(sum <a1, a2> sum <b1, b2>) over steps, each [T], which per-step ratios would bias.

    `products` are <g_a, g_b>, or the crossed products if the rows share clean images. The interval is that of
    `ratio_of_sums`. Its `reason` says why there is none: too few steps, or a signal not distinguishable from 0.
    An estimate outside [-1, 1] is no cosine: it is NaN, and not measurable.
    """
    found = ratio_of_sums(products, signals_a, signals_b)
    return replace(found, **OUTSIDE) if abs(found.estimate) > 1 + ROUNDING else found


# --------------------------------------------------------------------------------------------------- the log


@dataclass(frozen=True)
class PairRecord:
    """One pair of rows at one step. For a row with itself (`row_a == row_b`), its squared norm and its signal."""

    step: int
    row_a: str
    row_b: str  # row_a <= row_b
    product: float  # <g_a, g_b>
    crossed: float | None  # see `crossed_products`; `None` if a row had one sample
    cosine: float | None
    magnitude_similarity: float | None
    curvature_bound: float | None
    displacement: float | None  # of a row with itself: <last step's weight change, g_a>; > 0 is harm
    block: str = ""  # block of parameters; empty for the whole network


@dataclass
class ConflictLog:
    """All logged steps of a run, with one record per pair of rows."""

    rows: list[PairRecord] = field(default_factory=list)
    _by_pair: dict[tuple[str, ...], list[PairRecord]] = field(default_factory=dict, repr=False)

    def add(
        self, step: int, names: Sequence[str], pieces: Sequence[tuple[int, int]], gramian: Any,
        displacement: Any = None, block: str = "",
    ) -> dict[str, float]:  # fmt: skip
        """Add a step and return its metrics by name.

        `gramian` [H, H] is that of the pieces' mean gradients. `displacement` is [H], or `None` if it is not known.
        """
        halves = np.asarray(gramian, dtype=np.float64)
        gather = gathering(len(names), pieces)
        rows = gather @ halves @ gather.T  # [K, K]
        moved = None if displacement is None else gather @ np.asarray(displacement, dtype=np.float64)
        tables = (rows, crossed_products(halves, len(names), pieces), cosines(rows), magnitude_similarity(rows))
        new = _records(step, names, (*tables, curvature_bound(rows)), moved, block)
        self._take(new)
        return self._metrics(rows, new, moved, block)

    def pair(
        self, a: str, b: str, crossed: bool = True, last: int | None = None, block: str = ""
    ) -> tuple[Array, Array, Array]:
        """Return (products, signals of a, signals of b), each [T], over the steps in which both rows had two halves."""
        keys = [(block, *sorted((a, b))), (block, a, a), (block, b, b)]
        series = [self._by_pair.get(key, [])[-(last or 0) :] for key in keys]
        known = [{r.step: r for r in records if r.crossed is not None} for records in series]
        steps = [step for step in known[0] if step in known[1] and step in known[2]]
        tops = [known[0][step].crossed if crossed else known[0][step].product for step in steps]
        first, second = ([own[step].crossed for step in steps] for own in known[1:])
        return np.array(tops, np.float64), np.array(first, np.float64), np.array(second, np.float64)

    def corrected(self, a: str, b: str, crossed: bool = True, last: int | None = None, block: str = "") -> Interval:
        """Return the noise-corrected cosine of two rows over the last steps. `last=None` means the whole log."""
        return corrected_cosine(*self.pair(a, b, crossed, last, block))

    def _metrics(self, rows: Array, new: Sequence[PairRecord], moved: Array | None, block: str) -> dict[str, float]:
        within = f".{block}" if block else ""
        values = {f"conflict{within}/rate": conflict_rate(rows), f"conflict{within}/condition": condition_number(rows)}
        if moved is not None:
            values[f"conflict{within}/harm"] = harm(moved)
        for record in new:
            pair = f"{record.row_a}.{record.row_b}".replace(":", ".")
            if record.row_a != record.row_b:
                values[f"conflict{within}/{pair}"] = math.nan if record.cosine is None else record.cosine
                pooled = pooled_ratio(*self.pair(record.row_a, record.row_b, last=WINDOW, block=block))
                if abs(pooled) <= 1 + ROUNDING:  # any other is no cosine, and noise
                    values[f"conflict_corrected{within}/{pair}"] = pooled
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def state(self) -> dict[str, Any]:
        """Return the log as plain lists for a checkpoint."""
        return {"rows": [list(astuple(record)) for record in self.rows]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load a saved log."""
        self.rows, self._by_pair = [], {}
        self._take([PairRecord(*values) for values in state["rows"]])

    def _take(self, records: Sequence[PairRecord]) -> None:
        self.rows += records
        for record in records:
            self._by_pair.setdefault((record.block, record.row_a, record.row_b), []).append(record)

    def write(self, path: Path) -> Path:
        """Write a tidy table with one line per pair and step."""
        return write_table(path, [column.name for column in fields(PairRecord)], map(asdict, self.rows))


def _records(
    step: int, names: Sequence[str], tables: Sequence[Array], moved: Array | None, block: str
) -> list[PairRecord]:
    """Return one record per pair. `tables`: products, crossed, cosine, similarity, curvature, each [K, K]."""
    order = sorted(range(len(names)), key=lambda i: names[i])
    records = []
    for place, i in enumerate(order):
        for j in order[place:]:
            product, *others = (float(table[i, j]) for table in tables)
            crossed, cosine, similarity, curvature = (value if math.isfinite(value) else None for value in others)
            own = float(moved[i]) if moved is not None and i == j else None
            measured = (product, crossed, cosine, similarity, curvature, own)
            records.append(PairRecord(step, names[i], names[j], *measured, block))
    return records
