"""Curricula, weightings, surgeries, retentions and objectives compose freely: every pair of families is in some run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from torch import Tensor

from tests import tiny

from .cases import part, trained

CURRICULA: list[Any] = [
    "sequential",
    {"name": "cumulative", "last": 2},
    {"name": "interleaved", "rounds": 2},
    {"name": "mixed_matched", "last": 2},
    {"name": "sure", "share": 0.4},  # rows of unlabelled images, whose loss runs the network itself
]
CURRICULA.append({"name": "unsatisfied", "share": 0.5, "thresholds": [-99.0], "probe": 1, "samples": 1})
CURRICULA.append({"name": "review", "order": "listed", "threshold": -9.0, "quota": 0.5, "harvest": 1.0})
WEIGHTINGS = ["proportional", "art", "famo", "gradnorm"]  # nothing, state, a second look, the Gramian
SURGERIES = [None, "pcgrad", "gradvac", "graddrop", "db_mtl"]  # nothing, Gramian, state, rows, rows and state
RETENTIONS = [None, "replay-reservoir", "lira", "degradation_replay", "ewc", "si", "gem", "freeze"]
AUXILIARIES: list[Any] = [[], [{"name": "composite_cr"}], [{"name": "degradation_contrast", "bank": 4}]]
FAMILIES = (CURRICULA, WEIGHTINGS, SURGERIES, RETENTIONS, AUXILIARIES)
"""One of each kind that acts differently on the loop."""


def covering(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Rows of places, one a family, so that every two places of two families are together in some row; greedy."""
    places = [(family, place) for family, size in enumerate(sizes) for place in range(size)]
    left = {pair for pair in itertools.combinations(places, 2) if pair[0][0] != pair[1][0]}
    rows = []
    while left:
        row = dict(min(left))
        for family in sorted(set(range(len(sizes))) - set(row), key=lambda f: -sizes[f]):
            row[family] = max(
                range(sizes[family]),
                key=lambda place: sum(tuple(sorted([one, (family, place)])) in left for one in row.items()),
            )
        left -= set(itertools.combinations(sorted(row.items()), 2))
        rows.append(tuple(row[family] for family in range(len(sizes))))
    return rows


def strategy_at(row: Sequence[int], families: Sequence[Sequence[Any]] = FAMILIES) -> dict[str, Any]:
    """The composition that a row stands for."""
    curriculum, weighting, surgery, retention, auxiliary = (
        family[place] for family, place in zip(families, row, strict=True)
    )
    chosen = {"curriculum": curriculum, "weighting": weighting, "surgery": surgery, "auxiliary": auxiliary}
    return chosen | {"retention": part(retention) if retention else None}


def label(row: Sequence[int]) -> str:
    """For pytest."""
    names = [family[place] for family, place in zip(FAMILIES, row, strict=True)]
    names[-1] = names[-1][0] if names[-1] else None
    return "+".join(str(name["name"] if isinstance(name, dict) else name) for name in names)


def test_every_pair_of_parts_is_covered() -> None:
    sizes = [len(family) for family in FAMILIES]
    rows = covering(sizes)
    for f, g in itertools.combinations(range(len(sizes)), 2):
        assert len({(row[f], row[g]) for row in rows}) == sizes[f] * sizes[g]


OVERRIDES: dict[str, Any] = {
    "tasks": {"haze": None}, "training": {"steps": 4}, "conflict": {"every": 0}, "data": {"labelled": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module")
def first_weights() -> dict[str, Tensor]:
    """What every run begins with."""
    return tiny.weights(tiny.learner({}, **OVERRIDES))


@pytest.mark.parametrize("row", covering([len(family) for family in FAMILIES]), ids=label)
def test_it_trains_on_finite_losses_and_repeats_bit_for_bit(
    row: tuple[int, ...], first_weights: dict[str, Tensor]
) -> None:
    learner, watcher = trained(strategy_at(row), **OVERRIDES)
    assert all(math.isfinite(loss) for result in watcher.results for loss in result.losses.tolist())
    assert not tiny.same(first_weights, tiny.weights(learner))
    assert tiny.same(tiny.weights(learner), tiny.weights(trained(strategy_at(row), **OVERRIDES)[0]))
