"""Which groups to train: the published groups of TAG's authors, and exactness against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cmtl_ir.strategies.grouping._select import EXACT, choose, group_scores

TASKONOMY = ("ss", "depth", "norm", "key", "edge2d")
# Fifty et al., NeurIPS 2021, the authors' published matrix: row a, column b is what b does for a.
AFFINITY = np.array(
    [
        [11.999321423965947, 0.11537429894122785, 0.04891036220837213, 0.00454724706606927, 0.008776140044461892],
        [0.41355850961858076, 7.3276368896443556, 0.2914147606289435, 0.01353652075974951, 0.07395688217092156],
        [0.13982367687578146, 0.22096194178241185, 1.070989344832557, 0.010493772045577332, 0.07645966827511533],
        [0.021098526716001414, 0.013365983131803236, 0.010729013557423, 0.7338844180545812, 0.6897358940641894],
        [0.056692022190245474, 0.03668338077695892, 0.03600666458561003, 0.30372134710544996, 5.9661909882444615],
    ]
)
PUBLISHED = {
    1: (0.12929, [{"ss", "depth", "norm", "key", "edge2d"}]),
    2: (0.32170, [{"key", "edge2d"}, {"ss", "depth", "norm"}]),
    3: (0.34867, [{"ss", "depth"}, {"depth", "norm"}, {"key", "edge2d"}]),
}


@pytest.mark.parametrize("groups", PUBLISHED)
def test_the_taskonomy_matrix_gives_the_published_groups_and_scores(groups: int) -> None:
    total, wanted = PUBLISHED[groups]
    chosen = choose(AFFINITY, groups)
    assert chosen.total == pytest.approx(total, abs=5e-6)
    found = [frozenset(TASKONOMY[i] for i in group) for group in chosen.groups]
    assert set(found) == {frozenset(group) for group in wanted}


def test_the_transpose_gives_another_score() -> None:
    assert choose(AFFINITY.T, 3).total == pytest.approx(0.38388, abs=5e-6)


def test_a_task_that_helps_in_one_group_is_served_in_its_better_one() -> None:
    chosen = choose(AFFINITY, 3).named(TASKONOMY)
    (other,) = (group for group in chosen if set(group.tasks) == {"depth", "norm"})
    assert other.serves == ("norm",)


def brute_force(affinity: np.ndarray, groups: int, alone: float | None) -> float:
    tasks = len(affinity)
    candidates = [g for size in range(1, tasks + 1) for g in itertools.combinations(range(tasks), size)]
    if alone is None:
        candidates = [group for group in candidates if len(group) > 1]
    table = np.full((len(candidates), tasks), -np.inf)
    for place, group in enumerate(candidates):
        table[place, list(group)] = group_scores(affinity, group, alone)
    chosen = itertools.combinations(range(len(candidates)), min(groups, len(candidates)))
    return max(float(table[list(which)].max(0).mean()) for which in chosen)


@pytest.mark.parametrize("alone", [None, 0.0])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("key", range(6))
def test_the_choice_is_the_best_of_all(key: int, groups: int, alone: float | None) -> None:
    affinity = np.random.default_rng(key).normal(size=(5, 5))
    assert choose(affinity, groups, alone).total == pytest.approx(brute_force(affinity, groups, alone), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_the_choice_does_not_depend_on_the_unit(scale: float) -> None:
    affinity = np.random.default_rng(0).normal(size=(7, 7))
    one, other = choose(affinity, 3), choose(scale * affinity, 3)
    assert one.groups == other.groups and other.total == pytest.approx(scale * one.total, rel=1e-9)


@pytest.mark.parametrize("key", range(4))
def test_permuted_tasks_give_permuted_groups(key: int) -> None:
    generator = np.random.default_rng(key)
    affinity, order = generator.normal(size=(7, 7)), generator.permutation(7)
    plain, moved = choose(affinity, 3), choose(affinity[np.ix_(order, order)], 3)
    assert {frozenset(int(order[i]) for i in group) for group in moved.groups} == set(map(frozenset, plain.groups))


def test_the_pruned_search_finds_blocks_among_sixteen_tasks() -> None:
    tasks = 16
    assert tasks > EXACT
    block = np.arange(tasks) // 4
    noise = 0.2 * np.random.default_rng(0).normal(size=(tasks, tasks))
    chosen = choose(np.where(block[:, None] == block, 1.0, -1.0) + noise, 4)
    assert all(block[a] == block[b] for group in chosen.groups for a in group for b in group)


@pytest.mark.parametrize("tasks", [1, 2])
def test_few_tasks_need_no_choice(tasks: int) -> None:
    assert choose(np.full((tasks, tasks), -1.0), 1).groups == [tuple(range(tasks))]
