"""Training in two stages equals two stages of ordinary training where its first stage changes nothing."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.reading import merged, validate
from cmtl_ir.strategies.curriculum import _hidden
from cmtl_ir.strategies.curriculum.two_stage import TwoStage
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import history, walk

CLASSES = {"name": "degradation_class", "weight": 0.1}
CONTRAST = {"name": "degradation_contrast", "momentum": 0.5}
PHASED = {
    "wgws": {"name": "wgws", "base": 4, "blocks": 1, "stage": "both", "tasks": 3},
    "idr": {"name": "idr", "width": 4, "blocks": [1, 1, 1, 1], "refinement_blocks": 1, "heads": [1, 2, 2, 2],
            "operations": ["add", "add", "point"], "stage": "both"},
}  # fmt: skip


SHORT: dict[str, Any] = {"training": {"steps": 4, "batch": 3}, "data": {"patch": 8}}


def two_stage(first: str, **fields: Any) -> dict[str, Any]:
    return {"curriculum": {"name": "two_stage", "first": first, **fields}}


def trained(strategy: dict[str, Any], look_every: int = 0, **over: Any) -> Learner:
    learner = tiny.learner(strategy, **merged(SHORT, over))
    train(learner, tiny.Silent(look_every))
    return learner


def alike(one: Learner, other: Learner) -> bool:
    return tiny.same(tiny.weights(one), tiny.weights(other))


def phased(strategy: dict[str, Any], over: dict[str, Any]) -> Learner:
    """A learner of another backbone than the tiny one, whose fields it does not have."""
    raw = {key: value for key, value in tiny.RAW.items() if key != "backbone"}
    made = validate({**merged(raw, over), "strategies": {"one": strategy}}, "phased")
    tasks = tiny.build_tasks(made.tasks, made.data, 0, torch.device("cpu"))
    return Learner(made, made.strategies["one"], tasks, 0, torch.device("cpu"))


class Truth:
    """A teacher that knows the clean image."""

    def __init__(self, learner: Learner) -> None:
        self.learner, self.restore = learner, learner.restore

    def __call__(self, task: str) -> nn.Module:
        return nn.Identity()

    def restored(self, batch: Batch, network: nn.Module | None = None) -> Output:
        return Output.of(batch.clean) if isinstance(network, nn.Identity) else self.restore(batch, network)


def taught(learner: Learner) -> Learner:
    truth: Any = Truth(learner)
    learner.teachers = truth
    learner.restore = truth.restored  # type: ignore[method-assign]
    train(learner, tiny.Silent())
    return learner


@pytest.fixture(scope="module")
def twice_joint() -> Learner:
    return trained(two_stage("joint"))


def test_a_share_of_0_is_the_other_curriculum_and_the_stages_sum_to_the_budget() -> None:
    assert alike(trained(two_stage("mask", share=0, then="sequential")), trained({"curriculum": "sequential"}))
    stages = walk(TwoStage(first="mask", share=0.3, then="sequential", rate=0.5), ("a", "b"), 10)
    assert [(stage.name, stage.steps, stage.rate) for stage in stages] == [
        ("first", 3, 1),
        ("a", 3, 0.5),
        ("b", 4, 0.5),
    ]
    (first, joint) = walk(TwoStage(first="joint", share=0.3, restart=False), ("a", "b"), 10)
    assert (first.span, joint.span) == ((0, 10), (3, 10)) and not joint.fresh_optimizer
    with pytest.raises(ConfigError, match=r"too few for a share of 0\.01"):
        TwoStage(first="joint", share=0.01).next_stage(history(("a",), 10))


def test_without_a_restart_two_joint_stages_are_one() -> None:
    assert alike(trained(two_stage("joint", restart=False)), trained({}))


def test_teachers_that_know_the_truth_are_joint_training_with_a_restart(twice_joint: Learner) -> None:
    assert alike(taught(tiny.learner(two_stage("teachers"), **SHORT)), twice_joint)


def test_a_mask_that_hides_nothing_is_joint_training_with_a_restart(twice_joint: Learner) -> None:
    assert alike(trained(two_stage("mask", ratio=0.0)), twice_joint)
    assert not alike(trained(two_stage("mask")), twice_joint)


def test_the_loss_of_a_mask_is_that_of_the_hidden_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worked example: e (.1, .2, .3, .4), m (1, 0, 1, 0) -> .2; all hidden -> .25."""
    clean = torch.zeros(1, 3, 2, 2)
    error = torch.tensor([[0.1, 0.2], [0.3, 0.4]]).expand(1, 3, 2, 2)
    batch, learner = Batch("rain", torch.arange(1), clean, clean), tiny.learner()
    for mask, expected in (([1.0, 0.0, 1.0, 0.0], 0.2), ([1.0] * 4, 0.25)):
        fixed = torch.tensor(mask).view(1, 1, 2, 2)
        monkeypatch.setattr(_hidden, "mask_of", lambda *_, fixed=fixed: fixed)
        found = _hidden.loss_on_hidden(learner, 0.5)(Output.of(error), batch)
        torch.testing.assert_close(found, torch.tensor([expected]))


def test_each_sample_has_its_own_mask_one_for_the_three_channels() -> None:
    batch = tiny.learner().batch("rain", torch.arange(3))
    mask = _hidden.mask_of(batch, 0.5, 0)
    assert mask.shape == (3, 1, 16, 16) and 0.4 < float(mask.mean()) < 0.6
    assert not torch.equal(mask[0], mask[1])
    assert torch.equal(_hidden.mask_of(Batch("rain", batch.ids[1:2], *[batch.clean[1:2]] * 2), 0.5, 0), mask[1:2])
    seen = _hidden.hidden(batch, 0.5, 0)
    assert torch.equal(seen.degraded == 0, (mask > 0).expand_as(seen.degraded) | (batch.degraded == 0))


@pytest.mark.parametrize(("first", "auxiliary"), [("degradation_class", CLASSES), ("contrast", CONTRAST)])
@pytest.mark.parametrize("surgery", [None, "pcgrad"])
def test_a_stage_on_an_objective_alone_trains_it_and_leaves_the_weighting_alone(
    first: str, auxiliary: dict[str, Any], surgery: str | None
) -> None:
    strategy = {**two_stage(first), "auxiliary": {**auxiliary, "stages": ["first"]}, "weighting": "uncertainty"}
    strategy |= {"surgery": surgery} if surgery else {}
    learner = tiny.learner(strategy, **merged(SHORT, {"training": {"batch": 6}}))
    decoder = learner.model.state_dict()["ending.weight"].clone()

    class Watching(tiny.Silent):
        def stage_ended(self, learner: Learner, stage: Any) -> None:
            super().stage_ended(learner, stage)
            still = torch.equal(learner.model.state_dict()["ending.weight"], decoder)
            assert still == (first == "contrast" and stage.name == "first")
            assert ("rain" in learner.parts()["weighting"].state["value"]) == (stage.name == "joint")

    watcher = Watching()
    train(learner, watcher)
    assert watcher.ends == ["first", "joint"]
    rows = watcher.results[0].rows
    assert ("clean:rain" in rows) == (first == "degradation_class")
    assert float(watcher.results[0].losses[0]) == 0 and bool((watcher.results[0].weights == 1).all())


@pytest.mark.error("strategy: two_stage with a first stage whose objective is not in the auxiliary list")
def test_a_stage_without_its_objective_is_refused() -> None:
    for auxiliary in ([], [{**CLASSES, "stages": ["joint"]}], [{**CLASSES, "from": 0.5}]):
        with pytest.raises(ConfigError, match="'first' of two_stage trains on degradation_class or own_classes alone"):
            tiny.experiment({"one": {**two_stage("degradation_class"), "auxiliary": auxiliary}})
    with pytest.raises(ConfigError, match="unknown curriculum 'sequentiel'"):
        tiny.experiment({"one": two_stage("mask", then="sequentiel")})


@pytest.mark.error("strategy: two_stage with a first phase that the backbone does not have")
def test_a_network_without_phases_is_refused() -> None:
    with pytest.raises(ConfigError, match="no phases of its own"):
        trained(two_stage("network"))


# ------------------------------------------------------------------------------------------ networks with two phases


@pytest.mark.parametrize("name", PHASED)
@pytest.mark.parametrize("look_every", [0, 1])
def test_each_phase_trains_its_own_parameters(name: str, look_every: int) -> None:
    over = {"backbone": PHASED[name], "training": {"optimizer": {"weight_decay": 0.1}}}
    learner = phased(two_stage("network"), merged(SHORT, over))
    started = tiny.weights(learner)
    states: list[dict[str, Tensor]] = []

    class Watching(tiny.Silent):
        def stage_ended(self, learner: Learner, stage: Any) -> None:
            states.append(tiny.weights(learner))

    train(learner, Watching(look_every))
    network: Any = learner.model
    for number, (before, after) in enumerate([(started, states[0]), (states[0], states[1])], start=1):
        moved = {key for key in before if not torch.equal(before[key], after[key])}
        fixed = {key for key in before for pattern in network.frozen_in[number] if fnmatch(key, pattern)}
        assert fixed and not moved & fixed and moved - {"phase"}
    assert int(states[0]["phase"]) == 1 and int(states[1]["phase"]) == 2


@pytest.mark.parametrize("name", PHASED)
def test_the_phases_are_the_two_networks_of_the_authors_and_weights_know_theirs(name: str) -> None:
    """Phase 1 is the network `stage: 1`. Phase 2 is `stage: 2` with the weights of both."""
    fields = {key: value for key, value in PHASED[name].items() if key != "name"}
    both: Any = backbones.build(name, **fields).double().eval()
    with torch.no_grad():
        for parameter in both.parameters():
            parameter.add_(0.01 * torch.sin(torch.arange(parameter.numel())).view_as(parameter))
    x, task = torch.rand(2, 3, 16, 24, dtype=torch.float64), torch.tensor([0, 2])
    for number in (1, 2):
        one = backbones.build(name, **{**fields, "stage": number}).double().eval()
        own = both.state_dict()
        one.load_state_dict({key: own[key] for key in one.state_dict()})
        both.enter_phase(number)
        assert torch.equal(both(x, task), one(x, task))
    again: Any = backbones.build(name, **fields).double().eval()
    before = again(x, task)
    again.load_state_dict(both.state_dict())
    assert torch.equal(again(x, task), both(x, task)) and not torch.equal(again(x, task), before)


@pytest.mark.parametrize("name", PHASED)
def test_a_run_resumed_in_its_second_phase_ends_with_the_same_bits(name: str) -> None:
    over = merged(SHORT, {"backbone": PHASED[name]})
    strategy = two_stage("network", restart=name == "wgws")
    whole, stopped = phased(strategy, over), phased(strategy, over)
    train(whole, tiny.Silent())

    class Stop(tiny.Silent):
        def stepped(self, learner: Learner, result: Any, rate: float) -> None:
            if learner.step == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(stopped, Stop())
    again = phased(strategy, over)
    again.load_tree(stopped.tree())
    train(again, tiny.Silent())
    assert alike(whole, again)


# ------------------------------------------------------------------------------------------------------------ airnet


def test_airnet_trains_its_encoder_alone_and_then_both() -> None:
    over = {"backbone": {"name": "airnet", "groups": 1, "blocks": 1, "contrast_batch": 1}}
    learner = phased(two_stage("contrast", rate=0.1), merged(SHORT, over))
    assert [one.called for one in learner.strategy.auxiliary] == ["degradation_contrast"]
    started, ends = tiny.weights(learner), list[dict[str, Tensor]]()

    class Watching(tiny.Silent):
        def stage_ended(self, learner: Learner, stage: Any) -> None:
            ends.append(tiny.weights(learner))

    train(learner, Watching())
    restorer = [name for name in started if name.startswith("R.")]
    for number, (before, after) in enumerate([(started, ends[0]), (ends[0], ends[1])]):
        assert all(torch.equal(before[name], after[name]) == (number == 0) for name in restorer if "weight" in name)
        for name in ("E.E.encoder_q.E_pre.backbone.0.weight", "E.E.encoder_q.mlp.2.weight"):
            assert not torch.equal(before[name], after[name])
