"""Helpers of the curricula: exact integer splits of a budget, and mixture shares."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.data import Stage


def split(steps: int, parts: Sequence[int]) -> list[int]:
    """Return `steps` split in the proportions `parts` into positive integers that sum to `steps`.

    Raise ConfigError if the steps are too few for that.
    """
    total, ends = sum(parts), [0]
    for part in parts:
        ends.append(ends[-1] + part)
    lengths = [steps * end // total - steps * start // total for start, end in itertools.pairwise(ends)]
    if min(lengths) < 1:
        raise ConfigError(f"training.steps: {steps} steps are too few for {len(parts)} stages; give at least {total}")
    return lengths


def shares(amounts: Mapping[str, float]) -> dict[str, float]:
    """Return the amounts scaled to sum 1."""
    total = sum(amounts.values())
    return {name: amount / total for name, amount in amounts.items()}


def uniform(tasks: Sequence[str]) -> dict[str, float]:
    """Return the same share for every task."""
    return dict.fromkeys(tasks, 1.0 / len(tasks))


def exposures(stages: Sequence[Stage]) -> dict[str, float]:
    """Return the number of samples of each row over all stages, in units of a batch."""
    rows = {row: 0.0 for stage in stages for row in stage.mixture}
    for stage in stages:
        for row, share in stage.mixture.items():
            rows[row] += share * stage.steps
    return rows
