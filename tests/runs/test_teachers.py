"""The single-task runs of an experiment serve as teachers, and finished runs are found by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmtl_ir.base.errors import UserError
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.plan import prepare
from tests import tiny

SHORT = {"training": {"steps": 2}, "evaluation": {"every": 0}, "conflict": {"every": 0}}
SINGLE = {"curriculum": {"name": "single", "task": "rain"}}


def test_a_teacher_is_the_frozen_network_of_the_single_task_run(tmp_path: Path) -> None:
    (planned,) = prepare(tiny.experiment(**SHORT), tmp_path, "cpu").planned
    with pytest.raises(
        UserError, match=r"run this experiment with `--set 'strategies\.single_rain=.*single_rain` first"
    ):
        planned.learner().teacher("rain")
    done = runs.run(tiny.experiment({"alone": SINGLE}, **SHORT), tmp_path, "cpu")
    learner = planned.learner()
    teacher = learner.teacher("rain")
    assert teacher is learner.teacher("rain") and not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    trained = prepare(tiny.experiment({"alone": SINGLE}, **SHORT), tmp_path, "cpu").planned[0]
    assert trained.run.folder == done.runs[0].folder
    batch = learner.batch("rain", torch.arange(2))
    restored = learner.restore(batch, teacher).restored
    assert restored.shape == batch.clean.shape
    named = learner.finished_run("tiny/alone/0")
    assert torch.equal(learner.restore(batch, named).restored, restored) and not named.training
    with pytest.raises(UserError, match=r"no finished run 'other' in .*finished: tiny/alone/0"):
        learner.finished_run("other")
    with pytest.raises(UserError, match="single-task run with seed 0"):
        learner.teacher("haze")


@pytest.mark.error("strategy: teachers without single-task runs")
def test_teachers_are_trained_before_their_student_and_missing_ones_are_named(tmp_path: Path) -> None:
    student = {"curriculum": {"name": "two_stage", "first": "teachers"}}
    with pytest.raises(UserError, match=r"the teacher of noise is .*--strategy single_noise` first"):
        runs.run(tiny.experiment({"taught": student}, **SHORT), tmp_path, "cpu")
    assert not list(tmp_path.glob("*/*/weights.safetensors"))
    singles = {f"single_{task}": {"curriculum": {"name": "single", "task": task}} for task in tiny.RAW["tasks"]}
    done = runs.run(tiny.experiment({"taught": student, **singles}, **SHORT), tmp_path, "cpu")
    assert not done.failures and done.runs[0].label == "taught"
    assert all(run.status == "finished" for run in done.runs)
