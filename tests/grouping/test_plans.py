"""Groups that each grouping forms from given measures, independently of the order of tasks."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.grouping import Features, Group, Grouping, ordered, proxy_steps, shared_steps
from tests.grouping.synthetic import MadeUpProbe, as_sets, features

TASKS = ("noise", "rain", "haze", "dark", "snow", "jpeg")
PLACES = {"noise": 0.0, "jpeg": 0.1, "rain": 2.0, "snow": 2.2, "haze": 5.0, "dark": 5.3}
"""Points on a line: three pairs of neighbours."""
PAIRS = {frozenset({"noise", "jpeg"}), frozenset({"rain", "snow"}), frozenset({"haze", "dark"})}


def part(name: str, **given: Any) -> Grouping:
    made: Grouping = registry.load("grouping", name).model_validate(given)
    return made


def near(a: str, b: str) -> float:
    """Alike where they are neighbours, opposite where they are far apart; a little less so in one direction."""
    return 1.0 - abs(PLACES[a] - PLACES[b]) + 0.01 * (a < b)


def gain(group: tuple[str, ...], task: str) -> float:
    """PSNR that falls with the most distant companion."""
    return 30.0 - max(abs(PLACES[task] - PLACES[other]) for other in group)


def rows_of(task: str) -> np.ndarray:
    """Features whose spread and tails belong to the task's place: alike for neighbours."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(40, 60))
    return np.exp(0.3 * PLACES[task]) * np.sign(values) * np.abs(values) ** (1 + 0.2 * PLACES[task])


def probe(tasks: tuple[str, ...] = TASKS) -> MadeUpProbe:
    found: dict[str, Features] = {task: features(rows_of(task)) for task in tasks}
    return MadeUpProbe(tasks, near, found, gain)


PARTS = {
    "grids": part("grids", groups=3),
    "grids, per dimension": part("grids", groups=3, features="per_dimension"),
    "grids by delta": part("grids", delta=0.5),
    "tag": part("tag", groups=3),
    "hoa": part("hoa", groups=3),
    "conflict": part("conflict", groups=3),
    "conflict by threshold": part("conflict", threshold=0.5),
}


@pytest.mark.parametrize("name", PARTS)
def test_neighbours_share_a_model_and_strangers_do_not(name: str) -> None:
    groups = PARTS[name].plan(TASKS, probe())
    assert {frozenset(group.serves) for group in groups} == PAIRS


@pytest.mark.parametrize("order", list(itertools.islice(itertools.permutations(TASKS), 100, 720, 200)))
@pytest.mark.parametrize(
    "name",
    [*PARTS, "random like grids", "random sizes", "each", "all"],
)
def test_the_order_of_tasks_does_not_change_the_groups(name: str, order: tuple[str, ...]) -> None:
    more = {
        "random like grids": part("random", like={"name": "grids", "groups": 3}),
        "random sizes": part("random", sizes=[3, 2, 1]),
        "each": part("manual", groups="each"),
        "all": part("manual", groups="all"),
    }
    one = {**PARTS, **more}[name]
    assert as_sets(one.plan(order, probe(order))) == as_sets(one.plan(TASKS, probe()))


@pytest.mark.parametrize("name", PARTS)
def test_two_identical_tasks_land_in_one_group(name: str) -> None:
    twin = dict(zip((*TASKS, "twin"), (*TASKS, "noise"), strict=True))
    tasks = tuple(twin)
    doubled = MadeUpProbe(
        tasks,
        lambda a, b: near(twin[a], twin[b]),
        {task: features(rows_of(twin[task])) for task in tasks},
        lambda group, task: gain(tuple(map(twin.__getitem__, group)), twin[task]),
    )
    groups = PARTS[name].plan(tasks, doubled)
    (of_noise,) = (group for group in groups if "noise" in group.serves)
    assert "twin" in of_noise.tasks and "haze" not in of_noise.tasks


# ----------------------------------------------------------------------------------------------------- grids


@pytest.mark.parametrize("delta", [0.0, 0.15, 0.25, 0.35, 1.0, 2.5, 4.0, 10.0])
def test_grids_takes_the_fewest_groups_whose_drop_is_allowed(delta: float) -> None:
    asked = probe()
    found = len(part("grids", delta=delta).plan(TASKS, asked))
    drops = {}
    for count in range(1, len(TASKS) + 1):
        groups = part("grids", groups=count).plan(TASKS, probe())
        drops[count] = max(30.0 - gain(group.tasks, task) for group in groups for task in group.tasks)
    assert found == min(count for count, drop in drops.items() if drop <= delta)
    assert any("predicted drop" in note for note in asked.notes)


def test_grids_by_delta_asks_for_few_proxies() -> None:
    asked = probe()
    part("grids").plan(TASKS, asked)
    assert len(asked.asked) <= len(TASKS) + 3 * len(TASKS) / 2  # singles, and three looks of a binary search


def test_grids_says_when_a_fit_stands_at_the_end_of_its_range() -> None:
    line = np.outer(np.tile([1.0, -1.0], 10), np.ones(60))  # one component of 19 has all the variance
    asked = MadeUpProbe(("a", "b"), features={"a": features(line), "b": features(rows_of("noise"))})
    part("grids", groups=1).plan(("a", "b"), asked)
    assert "fitted shape of a is at an end of its range" in asked.notes[0]


# ------------------------------------------------------------------------------------------- conflict, hoa, tag


def test_a_cosine_that_is_not_measurable_counts_as_none_at_all() -> None:
    unknown = MadeUpProbe(TASKS, lambda a, b: 1.0 if a == b else float("nan"))
    assert len(part("conflict", threshold=0.0).plan(TASKS, unknown)) == 1
    assert len(part("conflict", threshold=0.01).plan(TASKS, unknown)) == len(TASKS)


def test_within_a_conflict_group_no_pair_is_below_the_threshold() -> None:
    cosines = np.random.default_rng(1).uniform(-1, 1, (6, 6))
    both = (cosines + cosines.T) / 2
    asked = MadeUpProbe(TASKS, lambda a, b: float(both[TASKS.index(a), TASKS.index(b)]))
    for threshold in (-0.5, 0.0, 0.3):
        groups = part("conflict", threshold=threshold).plan(TASKS, asked)
        inside = [both[TASKS.index(a), TASKS.index(b)] for g in groups for a, b in itertools.combinations(g.tasks, 2)]
        assert all(value >= threshold for value in inside)


def test_hoa_scores_a_group_by_the_gain_of_its_pairs() -> None:
    gains = {("a", "b"): (1.0, -0.5), ("a", "c"): (0.2, 0.4), ("b", "c"): (-0.1, -1.0)}

    def score(group: tuple[str, ...], task: str) -> float:
        return 20.0 + (gains[group][group.index(task)] if len(group) == 2 else 0.0)

    asked = MadeUpProbe(("a", "b", "c"), score=score)
    found = part("hoa", groups=3).matrix(asked.tasks, asked).values
    assert np.allclose(found, [[0, 1.0, 0.2], [-0.5, 0, -0.1], [0.4, -1.0, 0]])
    groups = part("hoa", groups=3).plan(asked.tasks, asked)  # b does better alone; a with its help; c with a's
    assert as_sets(groups) == {
        (frozenset("ab"), frozenset("a")),
        (frozenset("ac"), frozenset("c")),
        (frozenset("b"), frozenset("b")),
    }


def test_tag_says_what_it_predicts() -> None:
    asked = probe()
    part("tag").plan(TASKS, asked)
    assert asked.notes[0].startswith("predicted affinity")


# ---------------------------------------------------------------------------------------------- random, manual


def test_random_groups_have_the_other_groupings_sizes_and_differ_by_draw_and_seed() -> None:
    like = {"name": "conflict", "threshold": -1.0}
    sizes = sorted(len(group.tasks) for group in part("conflict", threshold=-1.0).plan(TASKS, probe()))
    found = set()
    for draw, seed in itertools.product(range(4), range(4)):
        asked = probe()
        asked.seed = seed
        groups = part("random", like=like, draw=draw).plan(TASKS, asked)
        assert sorted(len(group.tasks) for group in groups) == sizes
        assert sorted(task for group in groups for task in group.serves) == sorted(TASKS)
        found.add(frozenset(as_sets(groups)))
    assert len(found) > 8


def test_a_task_in_two_manual_groups_is_served_by_the_first_and_helps_in_the_other() -> None:
    groups = part("manual", groups=[["noise", "rain"], ["rain", "haze"]]).plan(("noise", "rain", "haze"), probe())
    assert [(group.tasks, group.serves) for group in groups] == [
        (("noise", "rain"), ("noise", "rain")),
        (("rain", "haze"), ("haze",)),
    ]


@pytest.mark.error("grouping: groups that cannot be")
@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        (
            "manual",
            {"groups": [["noise", "rain"]]},
            r"no group holds haze, dark, snow, jpeg; \[haze\] is a group of its own",
        ),
        ("manual", {"groups": [["noise", "noise"], [*TASKS[1:]]]}, "names a task twice"),
        ("manual", {"groups": [[*TASKS], []]}, "is an empty group"),
        ("grids", {"groups": 7}, "7 groups of 6 tasks; give at most 6"),
        ("tag", {"groups": 7}, "give at most 6"),
        ("conflict", {"groups": 7}, "give at most 6"),
        ("hoa", {"groups": 7}, "give at most 6"),
        ("random", {"sizes": [3, 2]}, r"\[3, 2\] must be positive and sum to 6 tasks"),
        ("random", {"sizes": [6, 0]}, "must be positive and sum to 6 tasks"),
        ("random", {"like": {"name": "tag", "groups": 9}}, "give at most 6"),
    ],
)
def test_groups_that_cannot_be_are_refused_before_anything_is_trained(name: str, given: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        part(name, **given).check(TASKS)


@pytest.mark.error("grouping: random groups without sizes")
@pytest.mark.parametrize("given", [{}, {"sizes": [2, 4], "like": "tag"}])
def test_random_groups_need_one_source_of_sizes(given: dict) -> None:
    with pytest.raises(ValueError, match="give either like: another grouping or sizes"):
        part("random", **given)


@pytest.mark.parametrize(
    "one",
    [part("grids", groups=1), part("grids"), part("conflict"), part("tag", groups=1), part("hoa", groups=1)],
    ids=lambda one: one.called,
)
def test_one_task_is_one_group(one: Grouping) -> None:
    one.check(("noise",))
    groups = one.plan(("noise",), probe(("noise",)))
    assert as_sets(groups) == {(frozenset({"noise"}), frozenset({"noise"}))}


# -------------------------------------------------------------------------------------------- order and steps


def test_groups_come_in_the_order_of_the_experiment_file() -> None:
    groups = ordered([Group(("d", "b"), ("d",)), Group(("c", "a"), ("c", "a")), Group(("b",), ("b",))], "abcd")
    assert [(group.tasks, group.serves) for group in groups] == [
        (("a", "c"), ("a", "c")),
        (("b",), ("b",)),
        (("b", "d"), ("d",)),
    ]


@pytest.mark.parametrize(
    "groups",
    [
        [Group(("a",), ("a",))],
        [Group(("a", "b"), ("a", "b")), Group(("b",), ("b",))],
        [Group(("a",), ("a", "b"))],
        [Group(("a", "b", "x"), ("a", "b", "x"))],
    ],
    ids=["missing", "twice", "served by a group without it", "unknown"],
)
def test_a_plan_that_does_not_serve_each_task_once_is_refused(groups: list[Group]) -> None:
    with pytest.raises(UserError, match="each task must be served by exactly one group that holds it"):
        ordered(groups, "ab")


@pytest.mark.parametrize("steps", [6, 7, 100, 3301])
@pytest.mark.parametrize("sizes", [(6,), (1, 5), (2, 2, 2), (1, 1, 4), (1, 2, 3)])
def test_equal_total_shares_exactly_the_steps_in_proportion_to_tasks(sizes: tuple[int, ...], steps: int) -> None:
    names = iter("abcdef")
    groups = [Group(tasks := tuple(next(names) for _ in range(size)), tasks) for size in sizes]
    counts = shared_steps(groups, steps, "equal_total")
    assert sum(counts) == steps
    assert all(abs(count - steps * size / 6) < 1 for count, size in zip(counts, sizes, strict=True))
    assert shared_steps(groups, steps, "equal_per_group") == [steps] * len(sizes)


@pytest.mark.error("grouping: too few steps")
def test_too_few_steps_for_the_groups_are_refused() -> None:
    groups = [Group((task,), (task,)) for task in "abc"]
    with pytest.raises(UserError, match="2 steps are too few for 3 groups"):
        shared_steps(groups, 2, "equal_total")


@pytest.mark.parametrize(("rule", "steps"), [("equal_total", 25), ("equal_per_group", 100)])
def test_a_proxy_gets_its_share_of_what_such_a_group_is_trained_for(rule: str, steps: int) -> None:
    assert proxy_steps(1, 4, 1000, part("grids", share=0.1, steps=rule)) == steps
