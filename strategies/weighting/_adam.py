"""Adam on named scalars, for weightings with learnable state: float64 and deterministic."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ._named import Table, gather, scatter

TABLES = ("value", "first", "second", "count")
LARGEST_GRADIENT = 1e100  # its square still fits into a float64


def fresh() -> dict[str, Table]:
    """Return the state without rows. A row's value starts at 0."""
    return {table: {} for table in TABLES}


def values(state: dict[str, Table], rows: Sequence[str], like: Tensor) -> Tensor:
    """Return the current values [K] on the device of `like`."""
    return gather(state["value"], rows, like.new_zeros(len(rows)))


def step(state: dict[str, Table], rows: Sequence[str], gradient: Tensor, lr: float) -> None:
    """Take one Adam step (Kingma and Ba 2015, Alg. 1; betas .9, .999, eps 1e-8) on the named rows, gradient [K]."""
    gradient = gradient.clamp(-LARGEST_GRADIENT, LARGEST_GRADIENT)
    value, first, second, count = (gather(state[table], rows, gradient.new_zeros(len(rows))) for table in TABLES)
    count = count + 1
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient * gradient
    value = value - lr * (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
    for table, new in zip(TABLES, (value, first, second, count), strict=True):
        scatter(state[table], rows, new)
