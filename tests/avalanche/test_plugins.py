"""Unmodified plugins of Avalanche in the training loop."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cmtl_ir.base import errors
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategies.guests.avalanche._library import library
from cmtl_ir.strategies.guests.avalanche._plugins import KEPT, REFUSED
from cmtl_ir.strategy import registry
from tests import tiny
from tests.retention.cases import trained
from tests.retention.test_resume import assert_same_tree, whole_and_resumed

from .cases import PLUGINS, hosted

SHORT = {"tasks": {"haze": None}, "training": {"steps": 8, "optimizer": {"lr": 2e-2}}, "conflict": {"every": 0}}
"""Two stages of four steps, at a rate at which the second task's gradient turns against the first."""


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, torch.Tensor], list[float]]:
    """Weights and losses of the run without a plugin."""
    learner, watcher = trained({"curriculum": "sequential"}, **SHORT)
    return tiny.weights(learner), [result.losses.item() for result in watcher.results]


@pytest.mark.parametrize("label", PLUGINS)
def test_a_hosted_plugin_acts_from_the_second_stage_on_and_repeats_bit_for_bit(label: str, plain) -> None:
    random.seed(1)
    one, watcher = trained(hosted(label), **SHORT)
    losses = [result.losses.item() for result in watcher.results]
    assert losses[:5] == pytest.approx(plain[1][:5], rel=1e-5)  # the fifth step begins where the first stage ended
    assert not tiny.same(tiny.weights(one), plain[0])
    torch.manual_seed(7)  # a plugin's draws do not come from the global generators, nor do they move them
    random.seed(7)
    state, python = torch.random.get_rng_state(), random.getstate()
    other, _ = trained(hosted(label), **SHORT)
    assert torch.equal(state, torch.random.get_rng_state()) and random.getstate() == python
    assert_same_tree(one.tree(), other.tree())


@pytest.mark.parametrize("step", [5, 9])
@pytest.mark.parametrize("label", PLUGINS)
def test_resumed_in_another_learner_all_is_equal_to_the_last_bit(label: str, step: int, tmp_path: Path) -> None:
    assert_same_tree(*whole_and_resumed(hosted(label), tmp_path, step))


@pytest.mark.parametrize("label", PLUGINS)
def test_a_state_that_no_stage_has_taken_up_yet_is_saved_as_it_was(label: str) -> None:
    saved = trained(hosted(label), **SHORT)[0].tree()
    fresh = tiny.learner(hosted(label), **SHORT)
    fresh.load_tree(saved)
    assert_same_tree(fresh.tree(), saved)


@pytest.mark.parametrize(("label", "field"), [("EWCPlugin", "ewc_lambda"), ("MASPlugin", "lambda_reg")])
def test_a_penalty_of_weight_0_is_sequential_to_rounding(label: str, field: str, plain) -> None:
    learner, _ = trained(hosted(label, **{field: 0.0}), **SHORT)
    for name, value in tiny.weights(learner).items():
        torch.testing.assert_close(value, plain[0][name], rtol=1e-3, atol=1e-4)


@pytest.mark.error("strategy: an Avalanche plugin that cannot be hosted")
@pytest.mark.parametrize(
    ("name", "reason"),
    [("SynapticIntelligencePlugin", "its importance is 0; use si"), ("LwFPlugin", "softmax over classes; use distill")]
    + [(name, "cannot be hosted: ") for name in ("ReplayPlugin", "BiCPlugin", "CoPEPlugin", "MIRPlugin")],
)
def test_what_cannot_work_is_refused_by_name_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"avalanche:{name} cannot be hosted: .*") as refused:
        tiny.experiment({"one": {"retention": f"avalanche:{name}"}})
    assert reason in str(refused.value)


@pytest.mark.error("strategy: a name that is no Avalanche plugin")
def test_a_name_that_is_no_plugin_and_a_family_that_is_no_retention_are_refused() -> None:
    with pytest.raises(errors.UnknownName, match="did you mean EWCPlugin"):
        registry.load("retention", "avalanche:EWCPlugn")
    with pytest.raises(errors.UnknownName, match="is a retention, not a surgery"):
        registry.load("surgery", "avalanche:GEMPlugin")


def test_the_names_hosted_and_refused_are_avalanche_s_own() -> None:
    plugins = library("avalanche.training.plugins")
    assert {name for name in [*KEPT, *REFUSED] if not hasattr(plugins, name)} == set()


def test_the_fields_are_the_plugin_s_arguments_and_its_own_checks_speak_before_training() -> None:
    made = registry.load("retention", "avalanche:EWCPlugin")
    own = {"ewc_lambda", "mode", "decay_factor", "keep_importance_data"}
    assert own == set(made.model_fields) - {"crops", "dataset_batch"}
    assert all(field.description for field in made.model_fields.values())
    for fields, words in [
        ({}, "ewc_lambda: is required"),
        ({"ewc_lambda": 1.0, "mode": "online"}, "decay_factor"),
        ({"ewc_lambda": 1.0, "lambda": 2.0}, "unknown key; did you mean ewc_lambda"),
    ]:
        with pytest.raises(ConfigError, match=words):
            tiny.experiment({"one": {"retention": {"name": "avalanche:EWCPlugin", **fields}}})


def test_avalanche_is_not_imported_before_it_is_asked_for() -> None:
    probe = """
import sys
from tests import tiny
from cmtl_ir.training.loop import train
import cmtl_ir.strategies.guests.avalanche
train(tiny.learner({"curriculum": "sequential", "retention": "replay"}), tiny.Silent())
print([name for name in ("avalanche", "torchvision", "wandb") if name in sys.modules])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", probe], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
