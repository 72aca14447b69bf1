"""The single-task runs of an experiment serve as teachers, and finished runs are found by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cmtl_ir.base.errors import UserError
from cmtl_ir.config.reading import validate
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.parallel import job_of
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


def test_negatives_are_known_by_the_weights_of_their_run(tmp_path: Path) -> None:
    runs.run(tiny.experiment({"alone": SINGLE}, **SHORT), tmp_path, "cpu")
    auxiliary = {"name": "curricular_cr", "negatives_of": ["tiny/alone/0"]}
    made = tiny.experiment({"one": {"auxiliary": auxiliary}, "joint": {}}, **SHORT)
    one, joint = prepare(made, tmp_path, "cpu").runs
    assert list(one.identity["runs"]) == ["tiny/alone/0"] and "runs" not in joint.identity
    assert prepare(made, tmp_path, "cpu").runs[0].hash == one.hash
    (file,) = tmp_path.glob("*/*/weights.safetensors")
    save_file({name: value + 1 for name, value in load_file(file).items()}, file)
    assert prepare(made, tmp_path, "cpu").runs[0].hash != one.hash


NO_NAFNET: dict[str, Any] = dict.fromkeys(("width", "encoder", "middle", "decoder"))
SHARED: dict[str, dict[str, Any]] = {
    "training.auxiliary": {"training": {"steps": 2, "auxiliary": [{"name": "frequency", "weight": 0.1}]}},
    "airnet": {"backbone": {**NO_NAFNET, "name": "airnet", "groups": 1, "blocks": 1, "contrast_batch": 1}},
}


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
def test_a_teacher_has_the_objectives_that_all_strategies_share(tmp_path: Path, shared: dict[str, Any]) -> None:
    """Also where a worker plans the run from its job."""
    over = {**SHORT, **shared}
    student = {"curriculum": {"name": "two_stage", "first": "teachers"}}
    (alone,) = prepare(tiny.experiment({"single_rain": SINGLE}, **over), tmp_path, "cpu").planned
    (planned,) = prepare(tiny.experiment({"taught": {**student, "auxiliary": "ssim"}}, **over), tmp_path, "cpu").planned
    assert [one.called for one in alone.strategy.auxiliary] != []
    assert planned.teachers().hash_of("rain") == alone.run.hash
    workspace: Any = SimpleNamespace(out=tmp_path, tracking=SimpleNamespace(uri=None), progress=None)
    job = job_of(planned, workspace, "")
    again = prepare(validate(job.payload["experiment"], "the job"), tmp_path, "cpu").planned[-1]
    assert again.run.hash == planned.run.hash and again.teachers().hash_of("rain") == alone.run.hash


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
