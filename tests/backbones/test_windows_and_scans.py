"""Properties of MambaIR, GRL, DehazeFormer and Retinexformer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir import backbones

from .cases import CASES, Case, image

GRL: dict[str, Any] = {"width": 8, "depths": [4], "heads": 2, "window": 8, "stripe": [8, 16], "drop_path": 0.5}
ENLARGING = [
    ("mambair", {"width": 30, "depths": [1], "states": 2}, "pixelshuffle", 3),
    ("mambair", {"width": 30, "depths": [1], "states": 2}, "pixelshuffledirect", 4),
    ("grl", GRL, "pixelshuffle", 4),
    ("grl", GRL, "pixelshuffledirect", 3),
]


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields", "upsampler", "scale"), ENLARGING)
def test_an_upsampler_enlarges(name: str, fields: dict[str, Any], upsampler: str, scale: int) -> None:
    model = Case(name, {**fields, "upsampler": upsampler, "scale": scale}).build()
    assert model(image(3, 9, 14)).shape == (1, 3, 9 * scale, 14 * scale)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mambair", "grl"])
def test_stochastic_depth_depends_on_the_sample_and_on_nothing_else(name: str) -> None:
    model = CASES[name].build().train()
    x = image(3, 16, 16, batch=2)
    first = model(x)
    assert torch.equal(model(x), first)
    assert not torch.allclose(first, model.eval()(x))
    torch.testing.assert_close(model.train()(x.flip(0)), first.flip(0), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_mambair_scans_by_the_loop_what_it_scans_in_blocks() -> None:
    blocked, loop = (Case("mambair", {**CASES["mambair"].fields, "scan": scan}).build() for scan in ("blocked", "loop"))
    x = image(3, 9, 13)
    torch.testing.assert_close(blocked.eval()(x), loop.eval()(x), rtol=1e-12, atol=1e-12)


def test_a_new_state_space_block_starts_as_the_authors() -> None:
    torch.manual_seed(0)
    block: Any = backbones.build("mambair", width=30, depths=[1], states=4).get_submodule(
        "layers.0.residual_group.blocks.0.self_attention"
    )
    torch.testing.assert_close(block.A_logs.exp(), torch.arange(1.0, 5.0).expand(4 * 36, -1))
    steps = torch.nn.functional.softplus(block.dt_projs_bias.detach())
    assert steps.min() >= 0.00099 and steps.max() <= 0.101
    assert float(steps.log().std()) > 1  # spread over both decades
    assert block.x_proj_weight.abs().max() <= 36**-0.5
    assert torch.equal(block.Ds, torch.ones(4 * 36))


@torch.no_grad()
def test_grl_with_groups_runs_on_rectangles() -> None:
    fields = {**GRL, "stripe": [8, None], "stripe_groups": [None, 4]}
    y = Case("grl", fields).build().eval()(image(3, 32, 64))
    assert y.shape == (1, 3, 32, 64) and y.isfinite().all()


def test_grl_loads_weights_with_the_buffers_of_another_size(tmp_path: Path) -> None:
    taught, model = CASES["grl"].build(torch.float32), CASES["grl"].build(torch.float32)
    buffers = {"table_w": torch.zeros(1, 15, 15, 2), "index_sh_a2w": torch.zeros(4, 4), "mask_sv_w2a": torch.zeros(9)}
    weights = {f"model.{key}": value + 1 for key, value in taught.state_dict().items()}
    torch.save({"state_dict": {**{f"model.{key}": value for key, value in buffers.items()}, **weights}}, tmp_path / "w")
    report = backbones.load_weights(model, tmp_path / "w")
    assert report.prefixes == ("model.",)
    assert all(torch.equal(value, weights[f"model.{key}"]) for key, value in model.state_dict().items())


@torch.no_grad()
def test_dehazeformer_pads_small_images_until_windows_can_be_reflected() -> None:
    model, x = CASES["dehazeformer"].build().eval(), image(3, 28, 28)
    edge = torch.nn.functional.pad(x[:, :, :26, :26], (0, 2, 0, 2), mode="reflect")
    torch.testing.assert_close(model(x[:, :, :26, :26]), model(edge)[:, :, :26, :26], rtol=1e-12, atol=1e-12)


WRONG = [
    ("mambair", {"width": 29}, "width // 30 channels"),
    ("mambair", {"scale": 2}, "does not fit scale 2: .*other scales need one"),
    ("mambair", {"upsampler": "pixelshuffle", "scale": 6}, "not 6"),
    ("mambair_unet", {"width": 16}, "width // 30 channels"),
    ("mambair_unet", {"blocks": [1, 1]}, "give four, one per level"),
    ("grl", {"width": 90}, "multiple of 2"),
    ("grl", {"stripe": [64, None]}, "each of two axes"),
    ("grl", {"window": 24}, "must divide the largest"),
    ("grl", {"stripe": [2, 128]}, "multiples of 4"),
    ("dehazeformer", {"depths": [4, 4]}, "each of five levels"),
    ("dehazeformer", {"widths": [24, 48, 96, 24, 48]}, "widths of the first two"),
    ("retinexformer", {"width": 42}, "multiple of 4"),
    ("retinexformer", {"blocks": [1, 2]}, "three numbers"),
]


@pytest.mark.error("backbone: {name} with fields that contradict each other")
@pytest.mark.parametrize(("name", "fields", "message"), WRONG)
def test_fields_that_contradict_each_other_are_refused(name: str, fields: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        backbones.build(name, **fields)
