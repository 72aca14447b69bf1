"""The loss of diffusion networks in the loop: worked values, keys, engines and refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.config.reading import validate
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, sample_losses
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.samples import draw
from tests import tiny
from tests.backbones.cases import CASES
from tests.objective.cases import stepper

from .test_values import made

FORMS = {"ir_sde": "l1", "weather_diffusion": "squares"}


def learner_of(name: str, strategy: dict[str, Any] | None = None, loss: Any = None, **fields: Any) -> Learner:
    backbone = {"name": name, **CASES[name].fields, **fields}
    raw = {**tiny.RAW, "backbone": backbone, "strategies": {"one": strategy or {}}}
    raw["training"] = {"steps": 2, "batch": 6, "loss": loss or {"name": "diffusion", "form": FORMS[name]}}
    experiment, device = validate(raw, "diffusion"), torch.device("cpu")
    tasks = tiny.build_tasks(experiment.tasks, experiment.data, 0, device)
    return Learner(experiment, experiment.strategies["one"], tasks, 0, device)


def test_values_by_hand() -> None:
    """Two patches of one pixel and three channels, differences 1, 2, 3 and 0, 0, 2: sums of squares 14 and 4."""
    wanted = torch.zeros(1, 2, 3, 1, 1)
    predicted = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 2.0]]).reshape(1, 2, 3, 1, 1)
    image = torch.zeros(1, 3, 4, 4)
    output, batch = Output.of(image), Batch("", torch.zeros(1), image, image)
    pair = Output(output.images, output.restored, {"predicted": predicted, "wanted": wanted})
    assert sample_losses(made("diffusion", form="squares"), pair, batch).tolist() == [9.0]
    assert sample_losses(made("diffusion"), pair, batch).tolist() == pytest.approx([8 / 6])
    with pytest.raises(UserError, match="outside of a training step"):
        made("diffusion").losses(output, batch, Constants(""))


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("strategy", [{}, {"surgery": "pcgrad"}], ids=["joint", "pcgrad"])
def test_diffusion_networks_train_with_their_loss(name: str, strategy: dict[str, Any]) -> None:
    learner, watcher = learner_of(name, strategy), tiny.Silent()
    before = tiny.weights(learner)
    train(learner, watcher)
    assert all(bool(result.losses.isfinite().all()) and bool(result.losses.all()) for result in watcher.results)
    assert not tiny.same(before, tiny.weights(learner))
    again = learner_of(name, strategy)
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(again), tiny.weights(learner))


@pytest.mark.parametrize("name", FORMS)
def test_the_loss_of_a_row_is_that_of_the_networks_own_pair(name: str) -> None:
    learner = learner_of(name)
    one, drawn, context = stepper(learner)
    result = one.update(drawn, context)
    model, pair = learner.model, drawn.pair(0, 2, learner.seed)
    with torch.no_grad():
        _, found = model.train()(drawn.degraded[:2], drawn.task_numbers[:2], **pair)
    difference = found["predicted"] - found["wanted"]
    axes = (1, 2, 3) if name == "ir_sde" else (2, 3, 4)
    expected = difference.abs().mean(axes) if name == "ir_sde" else difference.square().sum(axes).mean(1)
    assert result.losses[0].item() == pytest.approx(expected.mean().item(), rel=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_both_engines_give_the_same_row_gradients(name: str) -> None:
    buffers = []
    for engine in ("stream", "grouped"):
        one, drawn, context = stepper(learner_of(name, {"surgery": "pcgrad"}), engine)
        one.update(drawn, context)
        assert one.engine is not None and one.engine.fallback is None
        buffers.append(one.engine.buffer.clone())
    torch.testing.assert_close(*buffers, rtol=0, atol=1e-4 * float(buffers[0].abs().max()))


def test_every_sample_of_every_step_has_a_key_of_its_own() -> None:
    learner = learner_of("ir_sde")
    _, first, _ = stepper(learner)
    second = draw(learner, first.rows, [2, 2, 2])
    keys = torch.cat([one.pair(0, 6, learner.seed)["keys"] for one in (first, second)])
    assert len(keys.unique()) == 12
    assert torch.equal(first.pair(2, 4, learner.seed)["keys"], keys[2:4])


@pytest.mark.error("objective: diffusion as an auxiliary objective")
def test_it_is_no_auxiliary_objective() -> None:
    with pytest.raises(ConfigError, match=r"diffusion can only be the base objective, training\.loss"):
        learner_of("ir_sde", {"auxiliary": "diffusion"})


@pytest.mark.error("objective: diffusion with another network")
def test_a_network_without_a_training_pair_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.loss diffusion: backbone nafnet has no training_pair"):
        learner_of("nafnet", loss="diffusion")
