"""Base objectives of networks that see the clean image while they train: worked values, gradients and refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants, sample_losses
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny
from tests.backbones.cases import CASES
from tests.objective.cases import stepper

from .test_diffusion import learner_of
from .test_values import losses, made

LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "promptgip": ("masked_answers", {}),
    "biden": ("adversary", {"discriminator": True}),
}
every_network = pytest.mark.parametrize("name", LOSSES)


def trained_by_its_own(name: str, strategy: dict[str, Any] | None = None) -> Learner:
    loss, fields = LOSSES[name]
    return learner_of(name, strategy, loss, **fields)


def value(name: str, features: dict[str, Any], restored: float = 0.0) -> float:
    clean = torch.zeros(1, 3, 2, 2)
    image = clean + restored
    given = {key: torch.as_tensor(one, dtype=torch.float32) for key, one in features.items()}
    batch = Batch("", torch.zeros(1), clean, clean)
    return sample_losses(made(name), Output((image,), image, given), batch).item()


def test_masked_answers_by_hand() -> None:
    """Two pictures of 1 x 2 pixels: hidden are both pixels of the first, and one of the second."""
    truth = torch.zeros(1, 2, 3, 1, 2)
    patches = torch.tensor([[1.0, 2.0], [5.0, 3.0]]).view(1, 2, 1, 1, 2).expand(truth.shape)
    hidden = torch.tensor([[1.0, 1.0], [0.0, 1.0]]).view(1, 2, 1, 1, 2)
    found = {"truth": truth, "patches": patches, "hidden": hidden, "answers": truth + 0.5}
    assert value("masked_answers", found) == pytest.approx((1 + 4 + 9) / 3 + 0.5 + 0.5)


def test_adversary_by_hand() -> None:
    """An error of 0.1 is 0.2 in [-1, 1]; the logits of two sources are 0 and 0."""
    found = {"judged": [[[[0.5, 1.0]]]], "fake": [[[[0.5, 1.0]]]], "real": [[[[1.0, 0.0]]]]}
    found |= {"sources": [[0.0, 0.0]], "present": [[1.0, 0.0]]}
    of_discriminator = 0.5 * ((0.25 + 1) / 2 + 1 / 2) + math.log(2)
    assert value("adversary", found, 0.1) == pytest.approx(30 * 0.2 + 0.25 / 2 + of_discriminator, rel=1e-6)


def test_smooth_l1_by_hand() -> None:
    error = torch.tensor([[0.5, 2.0], [0.0, -3.0]]).expand(1, 3, 2, 2)
    nothing = torch.zeros_like(error)
    assert losses(made("smooth_l1"), error, nothing).item() == pytest.approx((0.125 + 1.5 + 2.5) / 4)
    assert losses(made("smooth_l1", beta=4), error, nothing).item() == pytest.approx((0.25 + 4 + 9) / 8 / 4)
    even = torch.full_like(error, 0.1)
    expected = sum(0.1 / one - 0.005 for one in (0.229, 0.224, 0.225)) / 3
    assert losses(made("smooth_l1", beta=0.01, normalized=True), even, nothing).item() == pytest.approx(expected)


@every_network
def test_the_networks_train_with_the_loss_that_is_their_own(name: str) -> None:
    learner, watcher = trained_by_its_own(name), tiny.Silent()
    before = tiny.weights(learner)
    train(learner, watcher)
    assert all(bool(result.losses.isfinite().all()) and bool(result.losses.all()) for result in watcher.results)
    part = {"promptgip": "mask_token", "biden": "netD.model3.4.weight"}[name]
    assert not torch.equal(before[part], tiny.weights(learner)[part])


@every_network
def test_both_engines_give_the_same_row_gradients(name: str) -> None:
    buffers = []
    for engine in ("stream", "grouped"):
        one, drawn, context = stepper(trained_by_its_own(name, {"surgery": "pcgrad"}), engine)
        one.update(drawn, context)
        assert one.engine is not None
        buffers.append(one.engine.buffer.clone())
    torch.testing.assert_close(*buffers, rtol=0, atol=1e-4 * float(buffers[0].abs().max()))


def test_neither_side_of_the_adversary_moves_the_other() -> None:
    model = CASES["biden_first"].build().train()
    x = torch.linspace(0, 1, 3 * 16 * 16, dtype=torch.float64).view(1, 3, 16, 16)
    restored, found = model.judged(x, x.flip(3))
    torch.testing.assert_close(found["judged"], found["fake"])
    assert found["present"].tolist() == [[1.0, 0.0]]

    def moved(name: str) -> set[str]:
        model.zero_grad()
        found[name].sum().backward(retain_graph=True)
        return {key.partition(".")[0] for key, one in model.named_parameters() if one.grad is not None}

    assert moved("judged") == {"netE", "netH1"}
    assert moved("fake") == moved("real") == moved("sources") == {"netD"}
    assert restored.shape == x.shape


@pytest.mark.error("objective: a base objective of another network")
@pytest.mark.parametrize(
    ("name", "loss", "message"),
    [
        ("nafnet", "masked_answers", "backbone nafnet has no masked"),
        ("promptgip", "diffusion", "backbone promptgip has no training_pair"),
        ("biden", "adversary", "set discriminator: true"),
    ],
)
def test_another_network_is_refused(name: str, loss: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(learner_of(name, loss=loss), tiny.Silent())


@pytest.mark.parametrize("name", ["masked_answers", "adversary"])
def test_outside_of_a_step_there_is_nothing_to_compare(name: str) -> None:
    image = torch.zeros(1, 3, 2, 2)
    with pytest.raises(UserError, match="outside of a training step"):
        made(name).losses(Output.of(image), Batch("", torch.zeros(1), image, image), Constants(""))
