"""LIRA: a frozen base, one expert per later task, and a gate over the experts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.backbones._adapted import Adapted, AdaptedBlock, Mixture
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.trained import load_model
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny
from tests.backbones.cases import CASES

from .cases import stage, strategy, trained


class Starts(tiny.Silent):
    """The weights with which each stage begins, and which parameters it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[dict[str, torch.Tensor]] = []
        self.trains: list[set[str]] = []

    def stage_started(self, learner, stage) -> None:
        self.starts.append(tiny.weights(learner))
        self.trains.append({name for name, one in learner.model.named_parameters() if one.requires_grad})


@pytest.fixture(scope="module")
def run() -> tuple[Learner, Starts]:
    learner, watcher = tiny.learner(strategy("lira")), Starts()
    train(learner, watcher)
    return learner, watcher


def plain_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The base's weights under the names that the backbone alone gives them."""
    return {
        name.removeprefix("network.").replace(".block.", "."): value
        for name, value in weights.items()
        if name.startswith("network.") and ".experts." not in name
    }


def test_the_first_stage_is_sequential_s_bit_for_bit(run) -> None:
    sequential, watcher = tiny.learner({"curriculum": "sequential"}), Starts()
    train(sequential, watcher)
    assert tiny.same(plain_names(run[1].starts[1]), watcher.starts[1])


def test_later_stages_train_one_expert_and_the_gate_and_nothing_else_moves(run) -> None:
    learner, watcher = run
    base, *later = watcher.trains
    assert base == {name for name in watcher.starts[0] if name.startswith("network.") and ".experts." not in name}
    for expert, (trains, start, end) in enumerate(
        zip(later, watcher.starts[1:], [*watcher.starts[2:], tiny.weights(learner)], strict=True)
    ):
        assert trains and all(name.startswith("gate.") or f".experts.{expert}." in name for name in trains)
        moved = {name for name in end if not torch.equal(start[name], end[name])} - {"opened"}  # the next expert
        assert moved <= trains and {"gate.weight", "gate.bias"} <= moved
        assert any(f".experts.{expert}." in name for name in moved)


def test_an_expert_changes_nothing_before_it_is_trained(run) -> None:
    learner, watcher = run
    batch = learner.batch("haze", torch.arange(3))
    network = copy.deepcopy(learner.model).eval()
    with torch.no_grad():
        network.load_state_dict(watcher.starts[1])
        assert network.live == 1
        opened = network(batch.degraded)
        network.open(0)
        assert torch.equal(network(batch.degraded), opened)
        network.load_state_dict(tiny.weights(learner))
        assert network.live == 2 and not torch.equal(network(batch.degraded), opened)


def test_old_answers_are_those_of_the_mixture_at_the_stage_s_start(run) -> None:
    learner, watcher = run
    kept = learner.strategy.retention.state["previous"]
    changed = {name for name, value in watcher.starts[2].items() if not torch.equal(value, kept[name])}
    assert changed == {"opened"} and kept["opened"] == 1  # the third stage's expert is not in it
    rows = learner.strategy.retention.rows(stage("haze"), learner)
    learner.model.requires_grad_(True)
    assert [row.name for row in rows] == ["memory:noise", "memory:rain"]
    then = copy.deepcopy(learner.model).eval()
    then.load_state_dict(kept)
    batch = learner.batch("noise", torch.arange(2))
    with torch.no_grad():
        restored = then(batch.degraded)
        assert rows[0].loss(Output.of(restored), batch).tolist() == [0.0, 0.0]
        assert rows[0].loss(Output.of(restored + 0.25), batch).tolist() == pytest.approx([0.25, 0.25], rel=1e-5)


def test_a_run_leaves_weights_and_an_identity_from_which_the_network_is_built_again(tmp_path: Path) -> None:
    short = {"tasks": {"haze": None}, "training": {"steps": 4}, "conflict": {"every": 0}}
    comparison = runs.run(tiny.experiment({"one": strategy("lira")}, **short), tmp_path, device="cpu")
    (one,) = comparison.runs
    model, _ = load_model(one.folder, torch.device("cpu"))
    assert isinstance(model, Adapted) and model.live == 1
    again, _ = trained(strategy("lira"), **short)
    assert tiny.same(model.state_dict(), tiny.weights(again))
    assert one.identity["backbone"] == {"name": "adapted", "of": tiny.experiment().backbone, "experts": 1, "rank": 2}


def test_a_block_by_hand() -> None:
    # y = x; the expert makes 3 (2 x) + 1; weights .25 and .75: x + .75 (6 x + 1).
    mixture = Mixture()
    block = AdaptedBlock(nn.Identity(), mixture)
    block.grow(channels=1, experts=1, rank=1)
    x = torch.full((1, 1, 2, 2), 2.0)
    mixture.weights = torch.tensor([[0.25, 0.75]])
    assert torch.equal(block(x), x)  # up starts at 0
    for module, weight, bias in zip(block.experts[0], (2.0, 3.0), (0.0, 1.0), strict=True):
        nn.init.constant_(module.weight, weight)
        nn.init.constant_(module.bias, bias)
    assert block(x).unique().tolist() == [2.0 + 0.75 * 13.0]
    mixture.weights = None
    assert torch.equal(block(x), x)


def test_the_gate_looks_at_each_image_by_itself(run) -> None:
    network = copy.deepcopy(run[0].model).eval()
    images = run[0].batch("haze", torch.arange(2)).degraded * torch.tensor([1.0, 0.3])[:, None, None, None]
    with torch.no_grad():
        nn.init.normal_(network.gate.weight)
        whole = network(images)
        torch.testing.assert_close(torch.cat([network(images[:1]), network(images[1:])]), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("label", ["nafnet", "srresnet", "unet", "restormer"])
def test_room_for_experts_leaves_a_network_as_it_is(label: str) -> None:
    case = CASES[label]
    made = []
    for fields in ({"name": case.name, **case.fields}, {"name": "adapted", "of": {"name": case.name, **case.fields}}):
        torch.manual_seed(0)
        made.append(backbones.build(**fields).eval())
    x = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        assert torch.equal(made[0](x), made[1](x))
        made[1].open(1)
        assert torch.equal(made[0](x), made[1](x))
    assert copy.deepcopy(made[1]).mixture is not made[1].mixture


@pytest.mark.error("strategy: lira with a backbone without feature maps")
def test_a_backbone_without_feature_maps_is_refused_by_name() -> None:
    case = CASES["transweather"]
    with pytest.raises(ConfigError, match=r"backbone transweather: no module whose class .* choose another backbone"):
        Adapted(of={"name": case.name, **case.fields})
