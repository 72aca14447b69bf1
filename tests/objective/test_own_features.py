"""Objectives on additional outputs of a network: worked values, and the networks that they belong to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir import backbones
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.loop import train
from tests import tiny
from tests.backbones.cases import CASES

from .test_values import made


def value(objective: Objective, features: dict[str, Tensor], clean: Tensor | None = None, task: int = 0) -> Tensor:
    count = len(next(iter(features.values())))
    clean = torch.zeros(count, 3, 4, 4) if clean is None else clean
    constants = Constants("row", {"task": torch.full((count,), task)})
    return objective.losses(Output((clean,), clean, features), Batch("", torch.arange(count), clean, clean), constants)


def test_balance_of_experts_by_hand() -> None:
    """Importance (1, 3): mean 2, variance 2; load (2, 2): no variation. Two places, the second of equal shares."""
    features = {"importance": torch.tensor([[[1.0, 3.0], [1.0, 1.0]]]), "load": torch.full((1, 2, 2), 2.0)}
    assert value(made("expert_balance"), features).item() == pytest.approx(0.125)  # (.5 * (2 / 4) + 0) / 2
    assert value(made("expert_balance", form="measnet"), features).item() == pytest.approx(0.5)


def test_smoothed_classes_have_the_published_value() -> None:
    classes = torch.tensor([0.6, 0.1, 0.1, 0.1, 0.1]).expand(2, 3, 5)
    assert value(made("own_classes"), {"classes": classes}).tolist() == pytest.approx([3 * 0.690002] * 2, abs=1e-5)
    logits = {"degradation": torch.tensor([[1.0, 2.0, 0.5]])}
    expected = torch.nn.functional.cross_entropy(logits["degradation"], torch.tensor([1])).item()
    assert value(made("own_classes", smoothing=0), logits, task=1).item() == pytest.approx(expected)
    with pytest.raises(UserError, match="task number 3, but the network has 3 classes"):
        value(made("own_classes"), logits, task=3)


def test_side_images_are_compared_with_the_clean_image_resized() -> None:
    clean = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    halved = torch.tensor([[2.5, 4.5], [10.5, 12.5]]).expand(1, 3, 2, 2)
    assert value(made("side_images"), {"side1": clean + 1, "side2": halved - 2}, clean).item() == 3.0
    with pytest.raises(UserError, match=r"choose data\.patch a multiple"):
        value(made("side_images"), {"side1": torch.zeros(1, 3, 8, 8)}, clean)


def test_the_size_of_indicators_is_their_sum_over_the_convolutions_of_the_weather() -> None:
    """All indicators begin at 0.15; one per convolution and weather."""
    network: Any = backbones.build("wgws", **CASES["wgws"].fields)
    convolutions = sum(name.endswith("B2_indicator") for name, _ in network.named_parameters())
    _, features = network.forward_features(torch.rand(2, 3, 8, 8), torch.tensor([1, 3]))
    assert value(made("indicator_size"), features).tolist() == pytest.approx([0.15 * convolutions] * 2, rel=1e-6)
    assert made("indicator_size").weight == 0.008 / 1000


def test_choice_of_a_width_by_hand() -> None:
    """Equal shares of errors 1 and 3 cost 2; they spend 0.75 of the width, 0.05 below the budget."""
    clean = torch.zeros(1, 3, 4, 4)
    features = {
        "width": torch.zeros(1, 2),
        "widths": torch.tensor([[0.5, 1.0]]),
        "images": torch.tensor([1.0, -3.0]).view(1, 2, 1, 1, 1).expand(1, 2, 3, 4, 4),
    }
    assert value(made("width_choice"), features, clean).item() == pytest.approx(2 + 0.05**2)
    with pytest.raises(UserError, match="give uwadn `stage: 2`"):
        value(made("width_choice"), {"width": features["width"]}, clean)


def constants_of(**values: Any) -> Constants:
    return Constants("row", {name: torch.tensor(one) for name, one in values.items()})


def test_contrast_of_types_by_hand() -> None:
    """Cosine 0.6 with the positive and 0.8 with both negatives; the type maps are averaged over positions."""
    types = torch.tensor([[[2.0, 0.0], [4.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]])[None]
    output = Output((), torch.zeros(0), {"type": types})  # the means are 1.5 and 0
    constants = constants_of(types=[[[0.6, 0.8], [0.8, 0.6], [0.8, -0.6]]])
    found = made("type_contrast").losses(output, Batch("", *[torch.zeros(1)] * 3), constants).item()
    p, n = math.exp(0.6 / 0.4), math.exp(0.8 / 0.4)
    assert found == pytest.approx(-math.log(p / (p + 2 * n)), rel=1e-6)


def test_ranking_of_severities_by_hand() -> None:
    """Inputs of 20 dB are of grade 3, the others of grade 4 and 2: t is -1 and 1."""
    clean = torch.full((4, 3, 2, 2), 0.5)
    output = Output((), torch.zeros(0), {"quality": torch.tensor([5.0, 7.5, 5.0, 7.5])})
    constants = constants_of(estimated=[6.2, 6.0, 4.0, 8.0], true=[4.0, 4.0, 2.0, 2.0])
    found = made("severity_ranking").losses(output, Batch("", torch.arange(4), clean + 0.1, clean), constants)
    # d is -1.2 (within the margin), 1.5 (wrong order), 1 (right), -0.5 (wrong order)
    assert found.tolist() == pytest.approx([0.0, 2.5, 0.0, 1.5], abs=1e-5)
    constants.per_sample["estimated"][0] = 7.0  # d is -2: e is 1, of which the margin is taken off
    found = made("severity_ranking").losses(output, Batch("", torch.arange(4), clean + 0.1, clean), constants)
    assert found[0].item() == pytest.approx(0.7, abs=1e-5)


@pytest.mark.error("objective: estimates of a network without any")
@pytest.mark.parametrize("name", ["type_contrast", "severity_ranking"])
def test_a_network_without_estimates_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"auxiliary {name}: the backbone estimates no degradation"):
        train(learner_of({"name": "moce_ir", **CASES["moce_ir"].fields}, name), tiny.Silent())


FITTING: list[tuple[str, dict[str, Any], Any]] = [
    ("moce_ir", {}, "expert_balance"),
    ("measnet", {"frozen_statistics": True}, {"name": "expert_balance", "form": "measnet", "weight": 0.001}),
    ("idr", {}, ["own_classes", "side_images"]),
    ("wgws", {}, {"name": "indicator_size", "weight": 0.1}),
    ("utilityir", {}, ["type_contrast", "severity_ranking"]),
]
ROUTERS = {
    "moce_ir": "routing.gate.2.weight",
    "measnet": "stpg_g_mese2",
    "idr": "principle.pred",
    "utilityir": "IQA_regressor",
    "wgws": "_indicator",
}
"""Parts of the names of parameters that only these losses train, or that they train among others."""


@pytest.mark.parametrize(("name", "fields", "auxiliary"), FITTING, ids=[one[0] for one in FITTING])
def test_the_networks_train_with_their_own_losses(name: str, fields: dict[str, Any], auxiliary: Any) -> None:
    backbone = {"name": name, **CASES[name].fields, **fields}
    learner = learner_of(backbone, {"auxiliary": auxiliary, "surgery": "pcgrad"})
    watcher = tiny.Silent()
    before = tiny.weights(learner)
    train(learner, watcher)
    assert all(bool(result.losses.isfinite().all()) for result in watcher.results)
    assert before.keys() == tiny.weights(learner_of(backbone, {})).keys()
    ends = tiny.weights(learner)
    assert any(not torch.equal(before[key], now) for key, now in ends.items() if ROUTERS[name] in key)


def test_uwadn_trains_in_its_second_stage_only_the_choice() -> None:
    backbone = {"name": "uwadn", **CASES["uwadn"].fields, "widths": [0.1, 0.15, 0.2], "stage": 2}
    classes = {"name": "own_classes", "weight": 1.0, "smoothing": 0.0}
    learner = learner_of(backbone, {"auxiliary": ["width_choice", classes]})
    before = tiny.weights(learner)
    train(learner, tiny.Silent())
    parts = {key.rpartition(".")[0] for key, now in tiny.weights(learner).items() if not torch.equal(before[key], now)}
    trained = {part for part in parts if not part.startswith("E.E.E_pre")}  # its statistics go on
    assert {"E.E.mlp.2", "E.se.1", "E.classifier"} <= trained
    assert not any(part.startswith(("R.", "transform")) for part in trained)


@pytest.mark.error("objective: own features of a network without any")
def test_a_network_without_features_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="backbone nafnet returns no features of its own"):
        learner_of({"name": "nafnet", "width": 4, "encoder": [1], "middle": 1, "decoder": [1]}, "expert_balance")


def learner_of(backbone: dict[str, Any], strategy: Any) -> Any:
    strategy = {"auxiliary": strategy} if isinstance(strategy, str) else strategy
    from cmtl_ir.config.reading import validate
    from cmtl_ir.training.learner import Learner

    raw = {**tiny.RAW, "backbone": backbone, "strategies": {"one": strategy}, "training": {"steps": 2, "batch": 3}}
    experiment, device = validate(raw, "own features"), torch.device("cpu")
    tasks = tiny.build_tasks(experiment.tasks, experiment.data, 0, device)
    return Learner(experiment, experiment.strategies["one"], tasks, 0, device)
