"""Mean teacher: published values, parts by hand, and equality with supervised training where its targets are true."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategies.curriculum import _teaching
from cmtl_ir.strategies.curriculum.mean_teacher import MeanTeacher
from cmtl_ir.strategies.shared.copies import follow
from cmtl_ir.strategy.data import UNLABELLED, Batch, Learner, Row, Stage
from cmtl_ir.strategy.output import Output
from cmtl_ir.training import learner as learners
from cmtl_ir.training.loop import train
from tests import tiny

OVER: dict[str, Any] = {
    "data": {"patch": 8, "labelled": 0.5},
    "training": {"steps": 4, "batch": 6},
    "conflict": {"every": 0},
}
FIELDS: dict[str, Any] = {"name": "mean_teacher", "ids": 4, "ramp": 0.5}


def learner_of(**fields: Any) -> Any:
    return tiny.learner({"curriculum": {**FIELDS, **fields}}, **OVER)


def trained(learner: Any) -> dict[str, Tensor]:
    train(learner, tiny.Silent())
    return tiny.weights(learner)


# ------------------------------------------------------------------------------------------------------- by hand


def test_the_ramp_has_the_published_values() -> None:
    found = [_teaching.ramp(step, 100, 0.2) for step in (0, 25, 50, 100, 150)]
    assert found == pytest.approx([0.001347589, 0.012010934, 0.057300959, 0.2, 0.2], abs=5e-10)
    assert _teaching.ramp(0, 0, 0.2) == 0.2


def test_the_teacher_is_a_running_mean_until_step_249() -> None:
    student, teacher = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    found = []
    for step, value in enumerate((1.0, 2.0, 3.0, 4.0)):
        nn.init.constant_(student.weight, value)
        follow(teacher, student, _teaching.keep_of(step, 0.996))
        found.append(teacher.weight.item())
    assert found == pytest.approx([1.0, 1.5, 2.0, 2.5])
    assert _teaching.keep_of(248, 0.996) < 0.996 == _teaching.keep_of(250, 0.996)


def test_an_answer_enters_if_it_beats_the_student_and_the_bank() -> None:
    """Qualities (teacher, student): (.5, .3) enters; (.4, .45) stays .5; (.6, .2) replaces. Scores are negative."""
    kept, trace = torch.tensor([torch.inf]), []
    for teacher, student in ((0.5, 0.3), (0.4, 0.45), (0.6, 0.2)):
        own, other = torch.tensor([-teacher]), torch.tensor([-student])
        kept = torch.where(_teaching.enters(own, other, kept), own, kept)
        trace.append(-kept.item())
    assert trace == pytest.approx([0.5, 0.5, 0.6])


def test_eight_symmetric_answers_of_a_pointwise_network_agree() -> None:
    learner = learner_of()
    batch = learner.batch("rain", torch.arange(2))
    views = [view for view, _ in _teaching.symmetries(batch.degraded)]
    assert len({view.numpy().tobytes() for view in views}) == 8
    assert all(torch.equal(undo(view), batch.degraded) for view, undo in _teaching.symmetries(batch.degraded))
    pointwise = nn.Conv2d(3, 3, 1)
    learner.forward = lambda degraded, numbers, network: Output.of(network(degraded))
    _, scores = _teaching.answers(learner, pointwise, batch, judged=True)
    assert scores.shape == (2,) and float(scores.max()) < 1e-6


# -------------------------------------------------------------------------------------------------------- labels


def test_photographs_are_labelled_by_name_and_the_others_have_no_truth() -> None:
    few, many, every = (tiny.learner({}, data={"labelled": share}) for share in (0.01, 0.7, 1.0))
    names = [set(one.task_of["rain"].splits.train.names) for one in (few, many, every)]
    assert len(names[0]) == 1 and names[0] < names[1] < names[2]
    assert set(many.task_of["haze"].splits.train.names) == names[1]
    others = many.task_of["rain"].splits.unlabelled
    assert others is not None and set(others.names) == names[2] - names[1]
    batch = many.batch("rain", torch.arange(3), UNLABELLED)
    assert bool(batch.clean.isnan().all()) and not bool(batch.degraded.isnan().any())
    assert every.task_of["rain"].splits.unlabelled is None
    assert len({one.task_of["rain"].digest for one in (few, many, every)}) == 3


@pytest.mark.error("strategy: mean_teacher while all images are labelled")
def test_without_unlabelled_images_it_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"mean_teacher: task noise has no unlabelled images: set data\.labelled"):
        train(tiny.learner({"curriculum": FIELDS}), tiny.Silent())


# ------------------------------------------------------------------------------------------------------ equality


class TrueTargets(MeanTeacher):
    """The bank holds the clean images, which are read through a labelled copy of the unlabelled ones."""

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        super().enter_stage(stage, learner)
        for task, bank in self.state["bank"].items():
            bank["images"], bank["scores"] = truth(learner, task, torch.arange(self.ids)), torch.zeros(self.ids)

    def target(self, teacher: nn.Module, batch: Batch, learner: Learner) -> tuple[Tensor, Tensor]:
        return truth(learner, batch.task, batch.ids), torch.zeros(len(batch.ids))


class Supervised(MeanTeacher):
    """The same rows with lambda times the loss against the truth."""

    def dress(self, row: Row, stage: Stage, learner: Learner) -> Row:
        dressed = super().dress(row, stage, learner)
        if row.kind != "unlabelled":
            return dressed

        def loss(output: Output, batch: Batch) -> Tensor:
            clean = truth(learner, batch.task, batch.ids)
            return self.weight * learner.sample_losses(output, replace(batch, clean=clean))

        return replace(dressed, loss=loss)


def truth(learner: Any, task: str, ids: Tensor) -> Tensor:
    return learner.task_of[task]._unlabelled.batch(ids).clean


def with_class(cls: type[MeanTeacher]) -> Any:
    learner = learner_of()
    part = cls(ids=4, ramp=0.0, contrast=0.0, hide=0.0)
    part.reset()
    learner.strategy = learner.strategy.model_copy(update={"curriculum": part})
    assert isinstance(learner, learners.Learner)
    return learner


def test_true_targets_are_supervised_training() -> None:
    assert tiny.same(trained(with_class(TrueTargets)), trained(with_class(Supervised)))


def test_neutral_settings_are_joint_training_and_others_are_not() -> None:
    joint = trained(tiny.learner({}, **OVER))
    for neutral in ({"share": 0}, {"weight": 0}):
        part = {"name": "mean_teacher", **neutral}
        assert tiny.same(trained(tiny.learner({"curriculum": part}, **OVER)), joint)
    assert not tiny.same(trained(learner_of(criterion="none", ramp=0.0)), joint)


@pytest.mark.parametrize("criterion", ["none", "disagreement"])
def test_a_resumed_run_goes_on_and_reports_its_criterion(criterion: str, caplog: pytest.LogCaptureFixture) -> None:
    class Stop(tiny.Silent):
        def stepped(self, learner: Any, result: Any, rate: float) -> None:
            if learner.step == 2:
                raise KeyboardInterrupt

    strategy: dict[str, Any] = {"curriculum": {**FIELDS, "criterion": criterion}}
    strategy |= {"surgery": "pcgrad", "weighting": "famo"} if criterion == "disagreement" else {}
    whole, stopped, again = (tiny.learner(strategy, **OVER) for _ in range(3))
    watcher = tiny.Silent()
    with caplog.at_level(logging.INFO, "cmtl_ir"):
        train(whole, watcher)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, Stop())
    again.load_tree(stopped.tree())
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(again))
    assert "unlabelled:rain" in {row for result in watcher.results for row in result.rows}
    assert all(len(result.weights) <= 3 for result in watcher.results)
    state = whole.strategy.curriculum.state
    assert (state["report"]["rain"]["known"] > 0) or criterion == "disagreement"
    assert "correlation with the true error" in caplog.text
