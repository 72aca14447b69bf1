"""Means over windows of steps; a row's window counts the steps in which that row was present."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def fresh() -> dict[str, Any]:
    """An empty window of one row."""
    return {"sum": 0.0, "count": 0}


def add(row: dict[str, Any], loss: Tensor, window: int) -> Tensor | None:
    """Take a loss in; the mean when it completes the window, which then starts anew."""
    row["sum"], row["count"] = loss + row["sum"], row["count"] + 1
    if row["count"] < window:
        return None
    mean = row["sum"] / window
    row.update(fresh())
    return mean
