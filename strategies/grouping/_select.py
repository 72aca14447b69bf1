"""Which groups to train when a task's score in a group is the mean of what its partners do to it.

Choose at most m groups (overlap allowed, a task counts in its best one) of largest mean score: a facility-location
problem, solved exactly up to 12 tasks. Prices on tasks (a Lagrangian relaxation) rule out the groups that no optimum
can hold, an integer program chooses among the few that remain. Legend: K tasks, G candidate groups.
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
"""Up to so many tasks every subset is a candidate; beyond, a beam search proposes them."""
WIDTH = 40
"""Beam search: groups of each size that are kept a task."""
ROUNDS = 300
SLACK = 1e-9


@dataclass(frozen=True)
class Choice:
    """The chosen groups (indices of tasks) and what they are worth."""

    groups: list[tuple[int, ...]]
    serving: list[int]
    """Task -> place in `groups` of the one that is best for it."""
    total: float
    """Mean over tasks of each one's best score."""

    def named(self, tasks: Sequence[str]) -> list[Group]:
        """The groups by name, each with the tasks that it is best for."""
        return [
            Group(tuple(tasks[i] for i in group), tuple(tasks[i] for i in group if self.serving[i] == place))
            for place, group in enumerate(self.groups)
        ]


def choose(affinity: Array, groups: int, alone: float | None = None) -> Choice:
    """affinity[a, b]: what b does for a, [K, K] (its diagonal is not read). `alone`: score of a task by itself;
    None: never by itself, unless there is no other task."""
    apart = affinity[~np.eye(len(affinity), dtype=bool)]
    unit = float(np.abs(apart).max()) if apart.any() else 1.0  # so that tolerances mean the same at every scale
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
    """[members] score of each member: mean over its partners b of affinity[a, b]."""
    if len(group) == 1:
        return np.array([0.0 if alone is None else alone])
    block = affinity[np.ix_(group, group)]
    return (block.sum(1) - np.diag(block)) / (len(group) - 1)


# ------------------------------------------------------------------------------------------------- candidates


def _candidates(affinity: Array, alone: float | None) -> tuple[list[tuple[int, ...]], Array]:
    """Groups and their scores [G, K], -inf for tasks outside a group."""
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
    """Pairs, then each kept group with one more task; of every size, the best few for each of its members."""
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
    """Half by the task's own score, half by the mean over the group."""
    own = [group for group in scored if task in group]
    by_own = sorted(own, key=lambda group: -scored[group][group.index(task)])
    return by_own[: WIDTH // 2] + sorted(own, key=lambda group: -scored[group].mean())[: WIDTH // 2]


# -------------------------------------------------------------------------------------------------- selection


def _value(scores: Array, chosen: Sequence[int] | NDArray[np.int64]) -> float:
    return float(scores[np.asarray(chosen)].max(0).sum())


def _exchange(scores: Array, groups: int) -> list[int]:
    """A good choice: the best single group for all, then one slot after the other replaced while that helps."""
    chosen = [int(scores.sum(1).argmax())] if np.isfinite(scores.sum(1)).any() else list(range(len(scores[0])))
    if len(chosen) > groups:
        raise ValueError("no group holds all tasks")
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
    """Candidates that an optimum may hold, by reduced cost under the prices with the lowest bound found."""
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
    """The best choice of at most `groups` rows, as an integer program (HiGHS)."""
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
