"""Means over windows of steps. A row's window counts the steps in which the row is present."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def fresh() -> dict[str, Any]:
    """Return the empty window of one row."""
    return {"sum": 0.0, "count": 0}


def add(row: dict[str, Any], loss: Tensor, window: int) -> Tensor | None:
    """Add a loss. Return the mean if this completes the window, which is then emptied, otherwise `None`."""
    row["sum"], row["count"] = loss + row["sum"], row["count"] + 1
    if row["count"] < window:
        return None
    mean = row["sum"] / window
    row.update(fresh())
    return mean
