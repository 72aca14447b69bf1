"""Selection of groups when a task's score in a group is the mean of its partners' effects on it.

At most m groups of largest mean score are chosen. They may overlap, and a task counts in its best one. This is a
facility-location problem, solved exactly up to 12 tasks. Prices on tasks (a Lagrangian relaxation) exclude the groups
that no optimum can contain, and an integer program chooses among the few that remain. Legend: K tasks, G candidate
groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmtl_ir.strategy.grouping import Group

Array = NDArray[np.float64]
EXACT = 12
"""Largest number of tasks for which every subset is a candidate. Beyond it, a beam search proposes candidates."""
WIDTH = 40
"""Beam search: number of groups of each size kept per task."""
ROUNDS = 300
SLACK = 1e-9


@dataclass(frozen=True)
class Choice:
    """The chosen groups (indices of tasks) and their value."""

    groups: list[tuple[int, ...]]
    serving: list[int]
    """Task -> position in `groups` of its best group."""
    total: float
    """Mean over tasks of each task's best score."""

    def named(self, tasks: Sequence[str]) -> list[Group]:
        """Return the groups by name, each with the tasks for which it is the best."""
        return [
            Group(tuple(tasks[i] for i in group), tuple(tasks[i] for i in group if self.serving[i] == place))
            for place, group in enumerate(self.groups)
        ]


def choose(affinity: Array, groups: int, alone: float | None = None) -> Choice:
    """Choose at most `groups` groups of largest mean score.

    affinity [K, K] holds at [a, b] the effect of b on a. Its diagonal is not read. `alone` is the score of a task by
    itself. `None` means never by itself, unless there is no other task.
    """
    effects = affinity[~np.eye(len(affinity), dtype=bool)]
    unit = float(np.abs(effects).max()) if effects.any() else 1.0  # so that tolerances mean the same at every scale
    candidates, scores = _candidates(affinity / unit, None if alone is None else alone / unit)
    start = _exchange(scores, groups)
    kept = _survivors(scores, groups, start)
    chosen = kept[_program(scores[kept], groups)] if len(kept) > len(start) else np.array(start)
    best = max((chosen, np.array(start)), key=lambda which: _value(scores, which))
    serving = scores[best].argmax(0)
    used = sorted(set(serving.tolist()), key=lambda place: candidates[best[place]])
    return Choice(
        [candidates[best[place]] for place in used],
        [used.index(place) for place in serving.tolist()],
        float(scores[best].max(0).mean()) * unit,
    )


def group_scores(affinity: Array, group: Sequence[int], alone: float | None) -> Array:
    """Return the score of each member [members]: the mean over its partners b of affinity[a, b]."""
    if len(group) == 1:
        return np.array([0.0 if alone is None else alone])
    block = affinity[np.ix_(group, group)]
    return (block.sum(1) - np.diag(block)) / (len(group) - 1)


# ------------------------------------------------------------------------------------------------- candidates


def _candidates(affinity: Array, alone: float | None) -> tuple[list[tuple[int, ...]], Array]:
    """Return the candidate groups and their scores [G, K], -inf for tasks outside a group."""
    tasks = len(affinity)
    found = _subsets(tasks) if tasks <= EXACT else _beam(affinity)
    if alone is not None or tasks == 1:
        found = [(a,) for a in range(tasks)] + found
    scores = np.full((len(found), tasks), -np.inf)
    for place, group in enumerate(found):
        scores[place, list(group)] = group_scores(affinity, group, alone)
    return found, scores


def _subsets(tasks: int) -> list[tuple[int, ...]]:
    return [group for size in range(2, tasks + 1) for group in itertools.combinations(range(tasks), size)]


def _beam(affinity: Array) -> list[tuple[int, ...]]:
    """Return all pairs, then each kept group with one more task. The best few of every size are kept per member."""
    tasks = len(affinity)
    layer: list[tuple[int, ...]] = list(itertools.combinations(range(tasks), 2))
    found = list(layer)
    for _ in range(3, tasks + 1):
        grown = {tuple(sorted((*group, a))) for group in layer for a in range(tasks) if a not in group}
        scored = {group: group_scores(affinity, group, None) for group in sorted(grown)}
        layer = sorted({group for a in range(tasks) for group in _best_for(a, scored)})
        found += layer
    return found


def _best_for(task: int, scored: dict[tuple[int, ...], Array]) -> list[tuple[int, ...]]:
    """Return the best groups of a task, half by its own score and half by the mean over the group."""
    own = [group for group in scored if task in group]
    by_own = sorted(own, key=lambda group: -scored[group][group.index(task)])
    return by_own[: WIDTH // 2] + sorted(own, key=lambda group: -scored[group].mean())[: WIDTH // 2]


# -------------------------------------------------------------------------------------------------- selection


def _value(scores: Array, chosen: Sequence[int] | NDArray[np.int64]) -> float:
    return float(scores[np.asarray(chosen)].max(0).sum())


def _exchange(scores: Array, groups: int) -> list[int]:
    """Return a good choice: the best single group for all, with one slot after another replaced while that helps."""
    chosen = [int(scores.sum(1).argmax())] if np.isfinite(scores.sum(1)).any() else list(range(len(scores[0])))
    if len(chosen) > groups:
        raise ValueError("no candidate group holds all tasks")
    improved = True
    while improved:
        improved = False
        for slot in range(min(groups, len(chosen) + 1)):
            others = chosen[:slot] + chosen[slot + 1 :]
            served = scores[others].max(0) if others else np.full(scores.shape[1], -np.inf)
            best = int(np.maximum(scores, served).sum(1).argmax())
            if _value(scores, [*others, best]) > _value(scores, chosen) + SLACK:
                chosen, improved = [*others, best], True
    return chosen


def _survivors(scores: Array, groups: int, start: Sequence[int]) -> NDArray[np.int64]:
    """Return the candidates that an optimum may contain, by reduced cost under the prices of the lowest bound found."""
    goal = _value(scores, start)
    finite = np.where(np.isfinite(scores), scores, np.nan)
    prices, scale = np.nanmedian(finite, axis=0), 1.0
    lowest, kept = np.inf, np.arange(len(scores))
    for round_ in range(ROUNDS):
        surplus = np.maximum(scores - prices, 0.0)  # [G, K]
        worth = surplus.sum(1)
        order = np.argsort(-worth)
        bound = prices.sum() + worth[order[:groups]].sum()
        last = worth[order[min(groups, len(order)) - 1]]
        possible = np.flatnonzero(bound - last + worth >= goal - SLACK)
        kept = possible if len(possible) < len(kept) else kept
        scale, lowest = (scale, bound) if bound < lowest else (scale * 0.95, lowest)
        slope = 1.0 - (surplus[order[:groups]] > 0).sum(0)  # [K]
        if not slope.any() or bound - goal <= SLACK or round_ == ROUNDS - 1:
            break
        prices = prices - scale * (bound - goal) * slope / (slope @ slope)
    return np.union1d(kept, np.asarray(start))


def _program(scores: Array, groups: int) -> NDArray[np.int64]:
    """Return the best choice of at most `groups` rows of `scores`, solved as an integer program (HiGHS)."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_matrix

    count, tasks = scores.shape
    group, task = np.nonzero(np.isfinite(scores))
    links = len(group)
    place, ones = np.arange(links), np.ones(links)
    served = coo_matrix((ones, (task, place)), shape=(tasks, links + count))
    open_ = coo_matrix(
        (np.r_[ones, -ones], (np.r_[place, place], np.r_[place, links + group])), shape=(links, links + count)
    )
    few = coo_matrix((np.ones(count), (np.zeros(count, int), links + np.arange(count))), shape=(1, links + count))
    rules = [LinearConstraint(served.tocsr(), 1, 1), LinearConstraint(open_.tocsr(), -np.inf, 0)]
    rules.append(LinearConstraint(few.tocsr(), -np.inf, groups))
    found = milp(
        np.r_[-scores[group, task], np.zeros(count)],
        constraints=rules,
        integrality=np.r_[np.zeros(links), np.ones(count)],
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if found.x is None:
        raise RuntimeError(f"the choice of groups failed: {found.message}")
    return np.flatnonzero(found.x[links:] > 0.5)
