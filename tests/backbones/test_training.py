"""Every network trains in the loop under joint training and PCGrad, resumes to the same bits and restores an image."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import validate
from cmtl_ir.measures.evaluation import restore_tiled
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import StepResult
from tests import tiny

from .cases import CASES, COUPLED, Case, sampled

VARIANTS = ("airnet_frozen", "fsnet_frozen", "idr_second_stage", "ir_sde_content", "instructir_learned")
TRAINED = {name: case for name, case in CASES.items() if name == case.name or name in VARIANTS} | {
    f"{name}_frozen": Case(name, {**CASES[name].fields, "frozen_statistics": True}) for name in ("anyir", "measnet")
}
JOINT = {name: case for name, case in TRAINED.items() if not name.endswith("_frozen")}
EACH_TIME = {*COUPLED, "anyir_frozen", "biden", "ipt", "mprnet", "nafnet", "swinir"}
UNDER_PCGRAD = [pytest.param(name, id=name, marks=() if name in EACH_TIME else pytest.mark.release) for name in TRAINED]
"""One of each kind and those that are refused each time, all before a release."""
STEPS = 3


class Keeper(tiny.Silent):
    """Keeps a copy of the run's state as it is before the last step."""

    tree: dict[str, Any]

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        super().stepped(learner, result, rate)
        if learner.step == STEPS - 1:
            self.tree = copy.deepcopy(learner.tree())


def experiment(case: Case, strategy: dict[str, Any]) -> Experiment:
    raw = {
        **tiny.RAW,
        "tasks": {name: tiny.RAW["tasks"][name] for name in ("noise", "haze")},
        "backbone": {"name": case.name, **case.fields},
        "training": {"steps": STEPS, "batch": 4, "optimizer": {"lr": 1e-3}, "clip": 1.0},
        "strategies": {"one": strategy},
    }
    return validate(raw, "every network")


def make(made: Experiment) -> Learner:
    device = torch.device("cpu")
    return Learner(made, made.strategies["one"], build_tasks(made.tasks, made.data, 0, device), 0, device)


def odd_image_is_restored(learner: Learner) -> None:
    x = torch.linspace(0, 1, 3 * 19 * 13).reshape(1, 3, 19, 13)
    y = restore_tiled(learner.model.eval(), x, torch.tensor([1]), 1024)
    assert y.shape == x.shape and bool(y.isfinite().all())
    assert y.dtype == torch.float32 and float(y.min()) >= 0 and float(y.max()) <= 1


@pytest.mark.parametrize("name", sampled(JOINT))
def test_a_network_trains_jointly_resumes_to_the_same_bits_and_restores(name: str) -> None:
    made = experiment(TRAINED[name], {})
    learner, keeper = make(made), Keeper()
    first = tiny.weights(learner)
    train(learner, keeper)
    assert len(keeper.results) == STEPS
    assert all(bool(result.losses.isfinite().all()) for result in keeper.results)
    assert not tiny.same(first, tiny.weights(learner))
    resumed = make(made)
    resumed.load_tree(keeper.tree)
    train(resumed, tiny.Silent())
    assert tiny.same(tiny.weights(learner), tiny.weights(resumed))
    odd_image_is_restored(resumed)


@pytest.mark.parametrize("name", UNDER_PCGRAD)
def test_a_network_trains_under_pcgrad_or_is_refused_by_name(name: str) -> None:
    learner, watcher = make(experiment(TRAINED[name], {"surgery": "pcgrad"})), tiny.Silent()
    if name in COUPLED:
        with pytest.raises(ValueError, match=r"\(\w+\) couples the samples of a batch"):
            train(learner, watcher)
        return
    before = tiny.weights(learner)
    train(learner, watcher)
    assert all(bool(result.losses.isfinite().all()) for result in watcher.results)
    assert not tiny.same(before, tiny.weights(learner))
