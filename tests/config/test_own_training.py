"""`strategies.LABEL.training`: checked like the experiment's, and equal to an experiment with these settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config import reading
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.runs.parallel import job_of
from cmtl_ir.runs.plan import narrowed_to, prepare
from cmtl_ir.runs.workspace import Workspace
from cmtl_ir.store.run import hash_of
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.learner import Learner
from tests import tiny

LR: dict[str, Any] = {"optimizer": {"lr": 1e-3}}


@cache
def tasks() -> dict[str, Task]:
    made = tiny.experiment()
    return build_tasks(made.tasks, made.data, 0, torch.device("cpu"))


def hashes(experiment: Experiment) -> dict[str, str]:
    return {label: hash_of(identity_of(experiment, one, 0, tasks())) for label, one in experiment.strategies.items()}


@pytest.mark.parametrize(
    "own",
    [LR, {"clip": None}, {"schedule": "constant"}, {"micro_batch": 2}, {"steps": 6, "batch": 3},
     {"loss": "charbonnier"}, {"loss": {"name": "frequency", "norm": "backward"}}],
    ids=lambda own: "+".join(own),
)  # fmt: skip
def test_own_settings_make_the_run_of_an_experiment_with_them_and_leave_others_alone(own: dict[str, Any]) -> None:
    both = tiny.experiment({"a": {}, "b": {"training": own}})
    everywhere = tiny.experiment(
        {"b": {}}, training=own if "schedule" not in own else {"schedule": {"name": "constant"}}
    )
    assert hashes(both) == hashes(tiny.experiment({"a": {}})) | hashes(everywhere)
    assert hashes(both)["a"] != hashes(both)["b"]
    again = reading.validate(yaml.parse(yaml.dump(both.resolved())), "again")
    assert again.resolved() == both.resolved() and hashes(again) == hashes(both)


def test_a_setting_equal_to_that_of_the_experiment_stays_stated_and_changes_no_hash() -> None:
    stated = tiny.experiment({"a": {"training": {"optimizer": {"lr": 4e-3}}}})
    assert stated.resolved()["strategies"]["a"]["training"] == {"optimizer": {"lr": 4e-3}}
    assert hashes(stated) == hashes(tiny.experiment({"a": {}}))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"optimizer": {"rl": 1}}, r"strategies\.a\.training\.optimizer\.rl: unknown key; did you mean lr"),
        ({"optimizer": {"lr": -1}}, r"strategies\.a\.training\.optimizer\.lr: .* greater than 0 \(found -1\)"),
        ({"loss": "charbonier"}, r"strategies\.a\.training\.loss: .*did you mean charbonnier"),
        ({"micro_batch": 2, "engine": "grouped"}, r"strategies\.a\.training: micro_batch needs the engine stream"),
        ({"auxiliary": ["ssim"]}, r"strategies\.a\.training\.auxiliary: belongs one level higher"),
        ("sgd", r"strategies\.a\.training: expected settings such as"),
    ],
)
def test_mistakes_are_answered_with_their_whole_path(own: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny.experiment({"a": {"training": own}})


def test_a_learner_trains_with_them_and_workers_and_teachers_know_the_shared_ones() -> None:
    grouping = {"grouping": {"name": "manual", "groups": "each"}, "training": LR}
    made = tiny.experiment({"a": {"training": {**LR, "clip": None}}, "b": grouping})
    planned = prepare(made, Path("runs"), "cpu").planned
    learner = planned[0].learner()
    assert (learner.training.optimizer.lr, learner.training.clip, learner.training.batch) == (1e-3, None, 6)
    assert learner.teachers.experiment.training.optimizer.lr == 4e-3  # type: ignore[union-attr]
    assert planned[0].parameters()["lr"] == 1e-3
    assert planned[1].experiment.training.optimizer.lr == 1e-3  # from which the runs of its groups are planned
    for one in planned:
        sent = job_of(one, Workspace.at("runs"), "").payload["experiment"]
        assert hashes(reading.validate(sent, "job")) == {one.run.label: one.run.hash}
    direct = Learner(made, made.strategies["a"], planned[0].tasks, 0, torch.device("cpu"))
    assert direct.training == learner.training


def test_another_number_of_steps_on_the_command_line_is_for_every_strategy() -> None:
    made = narrowed_to(tiny.experiment({"a": {"training": {**LR, "steps": 6}}, "b": {}}), [], [], 3)
    steps = [one.experiment.training.steps for one in prepare(made, Path("runs"), "cpu").planned]
    assert steps == [3, 3] and made.strategies["a"].training == {**LR, "steps": 3}
