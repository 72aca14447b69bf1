"""Claims about the probe batch: it finds what cannot be trained, names it, and leaves no trace."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.runs.plan import prepare
from cmtl_ir.runs.probes import probe
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.tasks.task import Task
from cmtl_ir.training.loop import train
from cmtl_ir.training.probing import faults_of
from tests import tiny

CPU = torch.device("cpu")
NETWORKS = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def middle(self, x):
        return x

    def forward(self, x, tasks=None):
        return x + self.last(self.middle(self.first(x)).relu())

class Plain(Base): pass

class Dropped(Base):
    def middle(self, x): return nn.functional.dropout(x, training=self.training)

class Normed(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def middle(self, x): return self.norm(x)

class Mixed(Base):
    def middle(self, x): return x - x.mean(0, keepdim=True)

class Grey(Base):
    def forward(self, x, tasks=None): return super().forward(x).mean(1, keepdim=True)

class GreyInUse(Base):
    def forward(self, x, tasks=None): return super().forward(x)[:, : 3 if self.training else 1]

class Frozen(Base):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)

class Detached(Base):
    def forward(self, x, tasks=None): return super().forward(x).detach()

class Nan(Base):
    def forward(self, x, tasks=None): return super().forward(x) / (tasks != 1).float().view(-1, 1, 1, 1)

class Unready(Base):
    def forward(self, x, tasks=None): return self.missing(x)
"""
ALL: dict[str, Any] = {"joint": {}, "pcgrad": {"surgery": "pcgrad"}, "gradnorm": {"weighting": "gradnorm"}}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "nets.py"
    path.write_text(NETWORKS)
    return path


@pytest.fixture(scope="module")
def tasks() -> Mapping[str, Task]:
    made = tiny.experiment()
    return build_tasks(made.tasks, made.data, 0, CPU)


def of(network: str, file: Path, strategies: dict[str, Any] | None = None, **overrides: Any) -> Experiment:
    own = tiny.RAW | {"backbone": {"name": f"{file}:{network}"}, "conflict": {"every": 0}}
    return tiny.validate({**tiny.merged(own, overrides), "strategies": strategies or {"joint": {}}}, "tiny")


def faults(experiment: Experiment, tasks: Mapping[str, Task], label: str = "joint") -> list[str]:
    return faults_of(experiment, experiment.strategies[label], tasks, 0, CPU)


FAULTY: dict[str, tuple[str, list[str]]] = {
    "Grey": ("joint", ["backbone: in train mode, the network returns [6, 1, 16, 16] for images [6, 3, 16, 16]"]),
    "GreyInUse": ("joint", ["backbone: in eval mode, the network returns [1, 1, 16, 16] for images [1, 3, 16, 16]"]),
    "Frozen": ("joint", ["no parameter is trained; all are frozen"]),
    "Detached": ("joint", ["backbone: no parameter gets a gradient"]),
    "Nan": ("joint", ["backbone: in train mode, the network returns NaN or infinite values for rain before"]),
    "Unready": ("joint", ["AttributeError", "missing", "nets.py, line"]),
    "Normed": ("pcgrad", ["surgery pcgrad need(s) the gradient of each row, but norm (BatchNorm2d)", "Freeze"]),
    "Mixed": ("gradnorm", ["weighting gradnorm need(s)", "changes with the other images of its batch"]),
}


@pytest.mark.parametrize("network", FAULTY)
def test_a_network_that_cannot_be_trained_is_named_with_its_fault(
    network: str, file: Path, tasks: Mapping[str, Task]
) -> None:
    label, words = FAULTY[network]
    found = faults(of(network, file, ALL), tasks, label)
    assert len(found) >= 1 and all(word in found[0] for word in words), found


@pytest.mark.parametrize("network", ["Plain", "Dropped"])
@pytest.mark.parametrize("label", ALL)
def test_a_network_that_can_be_trained_passes(network: str, label: str, file: Path, tasks: Mapping[str, Task]) -> None:
    assert faults(of(network, file, ALL, conflict={"every": 4}), tasks, label) == []


@pytest.mark.parametrize("network", ["Normed", "Mixed"])
def test_coupled_samples_are_fine_where_no_row_gradient_is_needed(
    network: str, file: Path, tasks: Mapping[str, Task]
) -> None:
    assert faults(of(network, file), tasks) == []
    (found,) = faults(of(network, file, conflict={"every": 2}), tasks)
    assert found.startswith("conflict.every need(s) the gradient of each row")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"training": {"shared": ["nope*"]}}, "training.shared: no parameter matches 'nope*'"),
        ({"conflict": {"blocks": {"a": ["frist*"]}}}, "conflict.blocks.a: no parameter matches 'frist*'; did you mean"),
    ],
)
def test_a_pattern_without_a_match_is_found_even_if_no_step_uses_it(
    given: dict[str, Any], expected: str, file: Path, tasks: Mapping[str, Task]
) -> None:
    (found,) = faults(of("Plain", file, **given), tasks)
    assert found.startswith(expected)


def test_later_strategies_are_found_too_and_the_error_lists_them_all(file: Path, tmp_path: Path) -> None:
    prepared = prepare(of("Normed", file, ALL), tmp_path, "cpu")
    with pytest.raises(ConfigError) as raised:
        probe(prepared)
    said = str(raised.value)
    assert "strategies.pcgrad: surgery pcgrad" in said and "strategies.gradnorm: weighting gradnorm" in said
    assert "the other strategies pass (joint)" in said and "nothing was trained" in said
    assert list(tmp_path.iterdir()) == []


def test_the_probe_changes_no_bit_of_the_training(tasks: Mapping[str, Task]) -> None:
    label, strategy = "one", {"curriculum": "review", "retention": "agem", "surgery": "pcgrad"}
    made = tiny.experiment({label: strategy}, training={"steps": 6})

    def trained(probed: bool) -> dict[str, torch.Tensor]:
        state = torch.random.get_rng_state()
        if probed:
            assert faults_of(made, made.strategies[label], tasks, 0, CPU) == []
            assert torch.equal(state, torch.random.get_rng_state())
        learner = tiny.Learner(made, made.strategies[label], tasks, 0, CPU)
        train(learner, tiny.Silent(look_every=4))
        return tiny.weights(learner)

    assert tiny.same(trained(True), trained(False))
