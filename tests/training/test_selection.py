"""Weights chosen by validation images are those of the best evaluation, also after a kill, and never by test images."""

from __future__ import annotations

from typing import Any

import pytest

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.runs.watching.logs import NullSink
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.scoring import Scoring
from cmtl_ir.runs.watching.selecting import Selecting
from cmtl_ir.runs.watching.watcher import Cadence, RunWatcher
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import StepResult
from tests import tiny

EVERY = 2


class Killed(Exception):
    """The end of a process."""


class Seen(RunWatcher):
    """Keeps the weights of every evaluation, and kills the run after a step."""

    def __init__(self, kill_after: int | None) -> None:
        self.kill_after, self.weights = kill_after, dict[int, Any]()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        if learner.step % EVERY == 0:
            self.weights[learner.step] = tiny.weights(learner)
        if learner.step == self.kill_after:
            raise Killed


def recorded(kill_after: int | None = None, resume: Any = None, **training: Any) -> tuple[Recorder, Scoring, Seen]:
    """A run of 8 steps with a learning rate that is too large, up to its end or its kill."""
    settings = {"steps": 8, "batch": 3, "optimizer": {"lr": 0.3}, "schedule": "constant", **training}
    data = {"val": 0.2, "test_crop": 24, "test_limit": 1}
    tasks = {"rain": None, "haze": None}
    learner = tiny.learner(
        training=settings, data=data, evaluation={"every": EVERY}, conflict={"every": 0}, tasks=tasks
    )
    recorder = Recorder(learner)
    evaluator = Evaluator(learner.task_of, "promptir", 1024, learner.device)
    scoring = recorder.add(Scoring(learner, evaluator, Cadence(EVERY, 0, 100, None, 1), NullSink()))
    if learner.training.selects:
        recorder.add(Selecting(scoring))
    seen = recorder.add(Seen(kill_after))
    if resume is not None:
        learner.load_tree(resume["learner"])
        recorder.load_state(resume["recorder"])
    try:
        train(learner, recorder)
    except Killed:
        assert kill_after is not None
    return recorder, scoring, seen


def test_the_best_evaluation_is_kept_also_after_a_kill() -> None:
    _, last, plain = recorded()
    scores = {point["step"]: sum(point["val"]["psnr"].values()) for point in last.curve}
    best = max(scores, key=lambda step: scores[step])
    assert best not in (0, 8), "the claim needs a run that is best in between"
    whole, scoring, _ = recorded(keep_best={})
    assert tiny.same(tiny.weights(whole.learner), plain.weights[best]) and whole.learner.selection.step == best
    assert sum(scoring.curve[-1]["val"]["psnr"].values()) == scores[best]
    half, _, _ = recorded(kill_after=best + 1, keep_best={})
    again, continued, _ = recorded(resume=half.tree(), keep_best={})
    assert tiny.same(tiny.weights(again.learner), plain.weights[best]) and continued.curve == scoring.curve
    stopped, _, _ = recorded(stop_early={"patience": 1})
    assert stopped.learner.step == best + EVERY == stopped.learner.finished[0].steps


@pytest.mark.error("training: selection without validation images")
def test_selection_without_validation_images_is_refused() -> None:
    every = {"evaluation": {"every": 5}, "data": {"val": None}}
    with pytest.raises(ConfigError, match=r"training\.keep_best selects on validation images.*; set data\.val"):
        tiny.experiment(training={"keep_best": {"on": "mean_psnr"}}, **every)
    own = {"joint": {"training": {"stop_early": {"patience": 2}}}}
    with pytest.raises(ConfigError, match=r"strategies\.joint\.training\.stop_early .*; set data\.val"):
        tiny.experiment(own, **every)
    with pytest.raises(ConfigError, match=r"training\.keep_best .*; set evaluation\.every"):
        tiny.experiment(training={"keep_best": {}}, evaluation={"every": 0}, data={"val": 0.2})
