"""`Output`: what a network returned, cut and filled without losing which image is the answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.measures.tiling import restore_tiled
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.making import objective_of
from cmtl_ir.strategy.objective import sample_losses
from cmtl_ir.strategy.output import Output, final_output, output_of
from cmtl_ir.training.loop import train
from tests import tiny

IMAGES = [torch.full((4, 3, 2, 2), float(number)) for number in range(3)]


class Last:
    restored_output = "last"
    output_weights = (0.0, 0.5, 2.0)


def test_a_tensor_is_its_own_answer_and_of_a_list_the_first_counts() -> None:
    alone, several = output_of(nn.Identity(), IMAGES[1]), output_of(nn.Identity(), IMAGES)
    assert alone.restored is IMAGES[1] and alone.images == (IMAGES[1],) and alone.weights is None
    assert several.restored is IMAGES[0] and len(several.images) == 3


def test_a_network_names_its_answer_and_the_weights_of_its_images() -> None:
    output = output_of(Last(), (IMAGES, {"latent": IMAGES[0]}))
    assert output.restored is IMAGES[2] and output.features["latent"] is IMAGES[0]
    assert final_output(Last(), IMAGES) is IMAGES[2]
    l1, batch = objective_of("l1"), Batch("", torch.arange(4), torch.zeros(4, 3, 2, 2), torch.zeros(4, 3, 2, 2))
    assert sample_losses(l1, output, batch).tolist() == [4.5] * 4  # 0 * 0 + .5 * 1 + 2 * 2
    assert sample_losses(l1, output_of(None, IMAGES), batch).tolist() == [3.0] * 4
    with pytest.raises(ValueError, match="3 weights, but the network returned 2"):
        output_of(Last(), IMAGES[:2])


def test_a_smaller_image_is_compared_with_the_clean_image_resized_to_it() -> None:
    clean = torch.arange(16.0).reshape(1, 1, 4, 4).expand(2, 3, 4, 4)
    batch = Batch("", torch.arange(2), clean, clean)
    halved = torch.tensor([[2.5, 4.5], [10.5, 12.5]]).expand(2, 3, 2, 2)  # means of 2 x 2 pixels
    output = output_of(None, [clean + 1, halved + 2])
    torch.testing.assert_close(sample_losses(objective_of("l1"), output, batch), torch.tensor([3.0, 3.0]))


def test_parts_keep_the_answer_the_features_and_the_weights() -> None:
    images = [torch.randn(5, 3, 2, 2) for _ in range(3)]
    output = output_of(Last(), (images, {"latent": torch.arange(5.0)}))
    part = output.part(1, 3)
    assert torch.equal(part.restored, images[2][1:3]) and part.restored is part.images[2]
    assert part.features["latent"].tolist() == [1.0, 2.0] and part.weights == Last.output_weights
    for found, start, stop in zip(output.split([2, 3]), (0, 2), (2, 5), strict=True):
        for one, other in zip(found.tensors(), output.part(start, stop).tensors(), strict=True):
            assert torch.equal(one, other)


def test_filling_and_the_answer_alone() -> None:
    output = output_of(Last(), IMAGES)
    filled = output.filled(IMAGES[0])
    assert all(image is IMAGES[0] for image in filled.images) and filled.weights == Last.output_weights
    assert output.final().images == (IMAGES[2],) and output.final().weights is None
    assert Output.of(IMAGES[0]).restored is IMAGES[0]


class Two(nn.Module):
    """A coarse image and a refined one; the last is the answer."""

    restored_output = "last"
    output_weights = (0.5, 1.0)
    couples_samples = False

    def __init__(self) -> None:
        super().__init__()
        self.coarse, self.fine = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Any:
        coarse = self.coarse(x)
        return [coarse, coarse + self.fine(coarse)]


@pytest.mark.parametrize("engine", ["stream", "grouped", "micro"])
def test_the_ways_to_an_update_agree_on_a_network_of_two_images(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weighted sum of both losses reaches both convolutions in the joint pass and in every engine."""
    monkeypatch.setattr(backbones, "build", lambda name, **fields: Two())
    fields = {"micro_batch": 1} if engine == "micro" else {"engine": engine}
    joint, by_row = tiny.learner(), tiny.learner({"surgery": {"name": "cagrad", "c": 0.0}}, training=fields)
    for learner in (joint, by_row):
        train(learner, tiny.Silent())
    for name, value in tiny.weights(joint).items():
        torch.testing.assert_close(tiny.weights(by_row)[name], value, rtol=1e-3, atol=1e-5)
    x = torch.rand(1, 3, 16, 16)
    answer = restore_tiled(joint.model, x, torch.zeros(1, dtype=torch.int64), 128)
    assert torch.equal(answer, joint.model(x)[1].clamp(0, 1))
