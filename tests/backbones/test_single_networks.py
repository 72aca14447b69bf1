"""Properties of NAFNet, SRResNet, TransWeather, AirNet and stochastic depth, and fields that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.backbones._layers import DropPath, image_keys

from .cases import CASES, image


@torch.no_grad()
def test_local_nafnet_is_the_global_one_on_its_training_patch() -> None:
    x = image(3, 8, 8)
    torch.testing.assert_close(CASES["nafnet_local"].build()(x), CASES["nafnet"].build()(x), rtol=1e-12, atol=1e-12)


LOCAL = ("nafnet", "nafnet_local")


@torch.no_grad()
def test_local_nafnet_does_not_hear_of_the_far_side() -> None:
    x = image(3, 16, 96)
    changed = x.clone()
    changed[..., 90:] = 0
    near = {name: (CASES[name].build()(changed) - CASES[name].build()(x))[..., :16].abs().max() for name in LOCAL}
    assert near["nafnet_local"] < 1e-12 < near["nafnet"]


@torch.no_grad()
def test_a_new_nafnet_block_is_the_identity() -> None:
    model: Any = backbones.build("nafnet", width=4, encoder=[1], decoder=[1])
    h = torch.rand(1, 4, 8, 8)
    assert torch.equal(model.encoders[0](h), h)


@torch.no_grad()
def test_an_explicit_prompt_decides_and_an_adaptive_one_does_not_ask() -> None:
    x = image(3, 12, 12)
    explicit, adaptive = CASES["srresnet_explicit"].build(), CASES["srresnet_adaptive"].build()
    assert not torch.allclose(explicit(x, torch.tensor([0])), explicit(x, torch.tensor([1])))
    assert torch.equal(adaptive(x, torch.tensor([0])), adaptive(x))
    with pytest.raises(ValueError, match="task number"):
        explicit(x)


@torch.no_grad()
def test_transweather_queries_have_no_effect_up_to_64_pixels() -> None:
    model = CASES["transweather"].build().eval()
    small, large = image(3, 64, 64), image(3, 80, 80)
    before = model(small), model(large)
    for block in model.get_submodule("Tdec.block1"):
        block.attn.task_query.neg_()
    assert torch.equal(model(small), before[0])
    assert not torch.allclose(model(large), before[1])


@torch.no_grad()
@pytest.mark.parametrize("name", ["swinir", "transweather"])
def test_stochastic_depth_depends_on_the_sample_and_on_nothing_else(name: str) -> None:
    model = CASES[name].build().train()
    x = image(3, 16, 16, batch=2)
    first = model(x)
    assert torch.equal(model(x), first)
    assert not torch.allclose(first, model.eval()(x))
    torch.testing.assert_close(model.train()(x.flip(0)), first.flip(0), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_stochastic_depth_drops_at_its_rate_and_keeps_the_mean() -> None:
    keys = image_keys(torch.rand(20000, 3, 2, 2))
    kept = DropPath(0.3, "here").train()(torch.ones(20000, 1), keys)
    elsewhere = DropPath(0.3, "there").train()(torch.ones(20000, 1), keys)
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=0.015)
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    assert float(((kept == 0) & (elsewhere == 0)).float().mean()) == pytest.approx(0.09, abs=0.01)


# ------------------------------------------------------------------------------------------------ AirNet's contrast


def test_airnet_contrast_moves_key_encoder_queue_and_pointer_on() -> None:
    model = CASES["airnet"].build().train()
    contrast = model.get_submodule("E.E")
    query, key = (dict(contrast.get_submodule(one).named_parameters()) for one in ("encoder_q", "encoder_k"))
    before = {name: value.detach().clone() for name, value in key.items()}
    queue = contrast.queue.clone()
    _, logits, labels = model.contrastive(image(3, 16, 16, batch=2), image(3, 16, 16, batch=2, key="input_k"))
    assert logits.shape == (2, 1 + 512)
    assert labels.tolist() == [0, 0]
    for name, value in key.items():
        torch.testing.assert_close(value, 0.999 * before[name] + 0.001 * query[name].detach())
    torch.testing.assert_close(contrast.queue[:, :2].norm(dim=0), torch.ones(2, dtype=torch.float64))
    assert torch.equal(contrast.queue[:, 2:], queue[:, 2:])
    assert contrast.queue_ptr.tolist() == [2]


def test_airnet_encoder_learns_from_the_contrast_and_its_keys_do_not() -> None:
    model = CASES["airnet"].build().train()
    restored_image, logits, labels = model.contrastive(image(3, 16, 16, batch=2), image(3, 16, 16, batch=2, key="k"))
    (restored_image.mean() + nn.functional.cross_entropy(logits, labels)).backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert without == [key for key, _ in model.named_parameters() if key.startswith("E.E.encoder_k.")]


def test_airnet_queue_wraps_within_a_batch_and_refuses_one_that_is_larger() -> None:
    model = CASES["airnet"].build().train()
    contrast = model.get_submodule("E.E")
    contrast.queue_ptr[0] = 511
    keys = nn.functional.normalize(image(3, 16, 16, batch=3).flatten(1)[:, :256], dim=1)
    contrast.enqueue(keys)
    assert contrast.queue_ptr.tolist() == [2]
    assert torch.equal(contrast.queue[:, [511, 0, 1]].T, keys)
    with pytest.raises(ValueError, match="a batch of 513 is larger than the queue of 512 keys; raise contrast_batch"):
        contrast.enqueue(keys[:1].expand(513, -1))


def test_airnet_frozen_statistics_stay_through_training_mode() -> None:
    model = CASES["airnet_frozen"].build().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(image(3, 16, 16, batch=2))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


WRONG = [
    ("adair", {"width": 12}, "not a multiple of 8"),
    ("dgunet", {"growth": 3}, "even from the second"),
    ("dgunet_plus", {"width": 2}, "at least 4"),
    ("fsnet", {"width": 24}, "multiple of 16"),
    ("fsnet", {"blocks": 3}, "at least 4"),
    ("fsnet", {"window": 300}, "not between 1 and 256"),
    ("mirnet_v2", {"width": 8}, "must be multiples of 4"),
    ("wgws", {"base": 3}, "at least 4"),
    ("promptgip", {"size": 250}, "multiple of patch"),
    ("promptgip", {"heads": 3}, "do not divide into 3 heads"),
    ("uwadn", {"widths": [0.5, 1.5]}, "above 0 and at most 1"),
    ("msbdn", {"width": 3}, "must be even"),
    ("prores", {"depth": 6}, "multiple of 4"),
    ("idr", {"width": 2}, "at least 3"),
    ("ir_sde", {"steps": 0}, "at least one step"),
    ("weather_diffusion", {"stride": 24}, "multiple of stride"),
    ("weather_diffusion", {"steps": 1001}, "1 to 1000"),
    ("nafnet", {"encoder": [1, 1]}, "give both the same number"),
    ("unet", {"widths": [8, 8]}, "give four, one per level"),
    ("restormer", {"heads": [1, 2]}, "numbers: give four each, one per level"),
    ("swinir", {"depths": [2]}, "give both the same number"),
    ("transweather", {"widths": [64, 128, 320]}, "four multiples of"),
    ("transweather", {"widths": [64, 128, 320, 500]}, "four multiples of"),
    ("swinir", {"scale": 2}, "does not fit scale 2: .*other scales need one"),
    ("swinir", {"upsampler": "pixelshuffle", "scale": 6}, "cannot upsample by 6: scale is 3 or a power of two"),
]


@pytest.mark.error("backbone: {name} with fields that contradict each other")
@pytest.mark.parametrize(("name", "fields", "message"), WRONG)
def test_fields_that_contradict_each_other_are_refused(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        backbones.build(name, **fields)
