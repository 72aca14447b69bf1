"""Review learning: which samples of a task are kept, and when they are trained again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cmtl_ir.store import checkpoint
from cmtl_ir.strategies.curriculum.review import Review
from cmtl_ir.strategies.curriculum.sequential import Sequential
from cmtl_ir.strategy.data import Batch, Stage
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import Still, history, walk

TASKS = ("a", "b", "c", "d")
LISTED = {"order": "listed"}


def feed(part: Review, stage: Stage, batch: int = 10, pieces: int = 1) -> None:
    """Train a stage without a network: losses around .1; samples 7, 107, 207 ... are hard, the later the harder."""
    task = stage.name
    if task not in stage.mixture:
        return
    for step in range(stage.steps):
        ids = torch.arange(step * batch, (step + 1) * batch)
        losses = 0.1 + 0.01 * torch.sin(ids.float())
        losses[ids % 100 == 7] = 0.2 + 1e-4 * step
        empty = torch.zeros(0)
        for some, loss in zip(ids.chunk(pieces), losses.chunk(pieces), strict=True):
            part.observe(Batch(task, some, empty, empty), task, loss)
            part.observe(Batch("z", some, empty, empty), "review:z", 100 + loss)
            part.observe(Batch("a", some, empty, empty), "memory:a", 100 + loss)


def run(part: Review, steps: int = 400, **feeding: int) -> list[Stage]:
    return walk(part, TASKS, steps, lambda stage: feed(part, stage, **feeding))


HARD = [n for n in range(700, 1000) if n % 100 == 7]  # of 100 steps of 10: in the last 30 %


@pytest.mark.parametrize("pieces", [1, 2])
def test_samples_of_abnormal_loss_in_the_last_30_percent_are_kept(pieces: int) -> None:
    stages = run(Review(**LISTED), pieces=pieces)
    assert stages[1].memory == {"review:a": HARD}
    assert stages[3].memory == {"review:a": HARD, "review:b": HARD, "review:c": HARD}


def test_the_quota_keeps_the_hardest() -> None:
    assert run(Review(quota=0.002, **LISTED))[1].memory == {"review:a": HARD[1:]}  # 2 of 1000, later ones are harder
    assert run(Review(quota=0.05, threshold=-10.0, **LISTED))[1].memory["review:a"] != HARD
    assert len(run(Review(quota=0.05, threshold=-10.0, **LISTED))[1].memory["review:a"]) == 50


def test_the_share_shrinks_from_stage_to_stage() -> None:
    stages = run(Review(**LISTED))
    assert stages[0].mixture == {"a": 1.0}
    assert stages[1].mixture == pytest.approx({"b": 0.75, "review:a": 0.25})
    assert stages[2].mixture == pytest.approx({"c": 0.8, "review:a": 0.1, "review:b": 0.1})
    assert stages[3].mixture == pytest.approx({"d": 0.84} | {f"review:{task}": 0.16 / 3 for task in "abc"})
    assert all(stage.fresh_optimizer for stage in stages)


def test_a_phase_of_review_closes_each_stage() -> None:
    stages = run(Review(rehearse="phase", **LISTED))
    assert [(stage.name, stage.steps) for stage in stages] == [
        ("a", 100), ("b", 75), ("b-review", 25), ("c", 80), ("c-review", 20), ("d", 84), ("d-review", 16),
    ]  # fmt: skip
    assert stages[4].mixture == {"review:a": 0.5, "review:b": 0.5}
    assert [stage.fresh_optimizer for stage in stages] == [True, True, False, True, False, True, False]


@pytest.mark.parametrize("rehearse", ["interleaved", "phase"])
@pytest.mark.parametrize("field", [{"quota": 0.0}, {"share": 0.0}, {"threshold": 1e9}])
def test_without_review_the_stages_are_those_of_sequential(rehearse: str, field: dict[str, float]) -> None:
    stages = run(Review(rehearse=rehearse, **field, **LISTED), steps=402)
    assert stages == walk(Sequential(), TASKS, 402)


def test_fluctuation_is_the_change_of_a_samples_own_loss() -> None:
    """At the stage's end sample n has the loss .001 n; when drawn it had about .1."""
    learner, part = Still(TASKS), Review(score="fluctuation", quota=0.01, **LISTED)
    stages = walk(part, TASKS, 400, lambda stage: feed(part, stage), learner)
    assert learner.looked["a"] == list(range(700, 1000))
    drawn = {n: 0.2 + 1e-4 * (n // 10) if n % 100 == 7 else 0.1 + 0.01 * math.sin(n) for n in range(700, 1000)}
    changed_most = sorted(drawn, key=lambda n: abs(0.001 * n - drawn[n]))[-10:]
    assert stages[1].memory == {"review:a": sorted(changed_most)}


def test_a_checkpoint_keeps_the_same_ids(tmp_path: Path) -> None:
    whole = run(Review(**LISTED))
    for cut in (3, 50, 99):
        first, second = Review(**LISTED), Review(**LISTED)
        first.reset(), second.reset()
        learner = Still(TASKS)
        stage = first.next_stage(history(TASKS, 400, (), learner))
        parts = [first] * cut + [second] * (100 - cut)
        for step, part in enumerate(parts):
            if step == cut:
                path = checkpoint.save(tmp_path, {"part": first.state_dict()}, step=step)
                second.load_state_dict(checkpoint.load(path).tree["part"])
            ids = torch.arange(step * 10, step * 10 + 10)
            losses = 0.1 + 0.01 * torch.sin(ids.float())
            losses[ids % 100 == 7] = 0.2 + 1e-4 * step
            part.observe(Batch("a", ids, torch.zeros(0), torch.zeros(0)), "a", losses)
        assert second.next_stage(history(TASKS, 400, (stage,), learner)) == whole[1]


def test_the_state_stays_small_over_a_long_stage() -> None:
    part = Review(**LISTED)
    walk(part, ("a",), 3000, lambda stage: feed(part, stage))
    part.reset()
    part.next_stage(history(("a",), 3000))
    feed(part, Stage("a", {"a": 1.0}, 3000))
    lesson = part.state["lessons"]["a"]
    assert lesson["drawn"] == 30_000 and len(lesson["ids"]) < 64
    assert sum(len(piece) for piece in lesson["ids"]) < 0.3 * 30_000 + 64 * 10


@pytest.mark.parametrize("fields", [{}, {"rehearse": "phase"}, {"score": "fluctuation"}])
def test_it_trains(fields: dict[str, str]) -> None:
    learner = tiny.learner({"curriculum": {"name": "review", **LISTED, "threshold": -10.0, "quota": 0.5, **fields}})
    watcher = tiny.Silent()
    train(learner, watcher)
    assert learner.step == 12
    rows = [set(result.rows) for result in watcher.results]
    assert rows[0] == {"noise"} and any("review:noise" in present for present in rows)
    assert learner.strategy.curriculum.state["memory"]["noise"] == list(range(16, 24))  # last 30 % of 4 steps of 6


def test_an_empty_memory_trains_to_the_bits_of_sequential() -> None:
    review = tiny.learner({"curriculum": {"name": "review", **LISTED, "quota": 0.0}})
    sequential = tiny.learner({"curriculum": "sequential"})
    train(review, tiny.Silent())
    train(sequential, tiny.Silent())
    assert tiny.same(tiny.weights(review), tiny.weights(sequential))
