"""AirNet's contrast in an experiment equals its authors' training pass in a plain loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cmtl_ir.backbones.airnet import AirNet
from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.backbones.fields import name_as_trained
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import merged, validate
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny

NETWORK = {"name": "airnet", "groups": 1, "blocks": 1, "contrast_batch": 1}
STEPS = 50
OPTIMIZER: dict[str, Any] = {"name": "sgd", "lr": 0.005, "momentum": 0.0}
RAW: dict[str, Any] = {
    "backbone": NETWORK,
    "data": {"patch": 8},
    "training": {"steps": STEPS, "batch": 3, "schedule": "constant", "optimizer": OPTIMIZER, "clip": None},
    "conflict": {"every": 0},
}


def experiment(strategies: dict[str, Any], **over: Any) -> Experiment:
    raw = {key: value for key, value in tiny.RAW.items() if key != "backbone"}
    return validate({**merged(merged(raw, RAW), over), "strategies": strategies}, "airnet")


def learner(strategy: dict[str, Any], **over: Any) -> Learner:
    made = experiment({"one": strategy}, **over)
    device = torch.device("cpu")
    return Learner(made, made.strategies["one"], tiny.build_tasks(made.tasks, made.data, 0, device), 0, device)


class Oracle(tiny.Silent):
    """After each step of the engine, makes the same step with the authors' pass, from the same weights and queue.

    Its key encoder keeps its own weights, which the authors move at the start of a step and the engine at its end.
    BatchNorm on small maps magnifies rounding, so that two whole runs differ after some steps, even of one program.
    """

    def __init__(self, one: Learner) -> None:
        super().__init__()
        self.plain: Any = network_to_device(initial_model(NETWORK, 0), torch.device("cpu")).train()
        self.before = tiny.weights(one)

    def stepped(self, learner: Learner, result: Any, rate: float) -> None:
        own = {name: value for name, value in self.plain.state_dict().items() if name in KEYS}
        self.plain.load_state_dict({**self.before, **own})
        self.step(learner, learner.step - 1)
        self.before = tiny.weights(learner)
        made = dict(self.plain.state_dict())
        for name in KEYS:
            made[name] = 0.999 * made[name] + 0.001 * self.before[name.replace("encoder_k", "encoder_q")]
        found, expected = (torch.cat([one[name].flatten() for name in sorted(one)]) for one in (self.before, made))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)

    def step(self, learner: Learner, number: int) -> None:
        """One sample per degradation, another crop of it as key, 0.1 of the cross-entropy, gradient descent."""
        ids, tasks = torch.tensor([number]), [learner.task_of[name] for name in learner.tasks]
        batches, views = [task.batch(ids) for task in tasks], [task.second_view(ids) for task in tasks]
        query, key = (torch.cat([one.degraded for one in several]) for several in (batches, views))
        channels_last = {"memory_format": torch.channels_last}
        restored, logits, labels = self.plain.contrastive(query.to(**channels_last), key.to(**channels_last))
        clean = torch.cat([batch.clean for batch in batches])
        loss = (restored - clean).abs().mean() + 0.1 * F.cross_entropy(logits, labels)
        trained = [parameter for parameter in self.plain.parameters() if parameter.requires_grad]
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            parameter.data.sub_(gradient, alpha=OPTIMIZER["lr"])


KEYS = [name for name, _ in AirNet(groups=1, blocks=1).named_parameters() if name.startswith("E.E.encoder_k.")]


def test_each_of_fifty_steps_is_that_of_the_authors_pass_and_the_encoder_learns() -> None:
    one = learner({})
    start = tiny.weights(one)
    train(one, Oracle(one))
    assert one.step == 50
    for name in ("mlp.2.weight", "E.1.backbone.0.weight", "E_pre.backbone.0.weight"):
        moved = one.model.state_dict()[f"E.E.encoder_q.{name}"] - start[f"E.E.encoder_q.{name}"]
        assert float(moved.abs().max()) > 5e-4


def test_the_contrast_is_implied_unless_a_strategy_or_the_training_lists_objectives() -> None:
    """An empty list keeps the hash of the runs that were made before, and is read again as an empty list."""
    made = experiment({"airnet": {}, "without": {"auxiliary": []}, "other": {"auxiliary": "l1"}})
    labels = {name: [one.label for one in strategy.auxiliary] for name, strategy in made.strategies.items()}
    assert labels == {"airnet": ["degradation_contrast"], "without": [], "other": ["l1"]}
    assert made.resolved()["strategies"]["without"]["auxiliary"] == []
    assert validate(made.resolved(), "again").resolved() == made.resolved()
    nowhere = experiment({"one": {}}, training={"auxiliary": []})
    assert nowhere.strategies["one"].auxiliary == ()
    tasks = tiny.build_tasks(made.tasks, made.data, 0, torch.device("cpu"))
    identity = identity_of(made, made.strategies["without"], 0, tasks)
    assert "auxiliary" not in identity["strategy"] and identity["backbone"]["name"] == "airnet"
    assert name_as_trained("airnet", []) == "airnet without degradation_contrast"
    assert name_as_trained("airnet", ["degradation_contrast"]) == "airnet" and name_as_trained("unet", []) == "unet"


def test_with_frozen_statistics_rows_have_gradients_and_state_is_resumed() -> None:
    """The encoder is then in eval mode; queue and key encoder are part of the network, and so of its checkpoints."""
    over = {"backbone": {"frozen_statistics": True}, "training": {"steps": 3}}
    one = learner({"surgery": "pcgrad"}, **over)
    train(one, tiny.Silent(look_every=1))
    again = learner({"surgery": "pcgrad"}, **over)
    again.load_tree(one.tree())
    assert tiny.same(tiny.weights(one), tiny.weights(again))
    queue = one.model.state_dict()["E.E.queue_ptr"]
    assert queue.tolist() == [9]


def test_a_backbone_without_a_contrast_of_its_own_is_refused() -> None:
    own = {"name": "degradation_contrast", "encoder": "own", "negatives": "all"}
    with pytest.raises(ConfigError, match="nafnet returns no features of its own"):
        tiny.learner({"auxiliary": own})
    with pytest.raises(ConfigError, match="the queue of encoder: own does not know tasks"):
        tiny.experiment({"one": {"auxiliary": {**own, "negatives": "others"}}})
