"""Multi-stage networks: outputs, latent and parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cmtl_ir.backbones import build
from cmtl_ir.backbones._frequency_selection import LocalMean
from cmtl_ir.backbones._unfolding import projected
from cmtl_ir.backbones.adair import split_frequencies
from cmtl_ir.backbones.mprnet import joined, split

from .cases import CASES, image

MANY = ("dgunet", "dgunet_plus", "fsnet", "mprnet")
LATENT = {  # channels and the part of height and width that the latent has
    "dgunet": (10, 8),
    "dgunet_plus": (10, 8),
    "fsnet": (64, 4),
    "mirnet_v2": (16, 1),
    "mprnet": (16, 4),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MANY)
def test_every_output_has_a_weight_and_its_size(name: str) -> None:
    model = CASES[name].build().eval()
    outputs = model(image(3, 37, 42))
    assert len(outputs) == len(model.output_weights)
    sizes = [(10, 11), (19, 21), (37, 42)] if name == "fsnet" else [(37, 42)] * len(outputs)
    assert [tuple(y.shape[2:]) for y in outputs] == sizes


@torch.no_grad()
@pytest.mark.parametrize("name", LATENT)
def test_the_latent_is_the_output_of_the_part_named(name: str) -> None:
    model, found = CASES[name].build().eval(), list[Tensor]()
    model.get_submodule(model.latent_module).register_forward_hook(lambda part, x, y: found.append(y))
    model(image(3, 64, 32, batch=2))
    channels, part = LATENT[name]
    assert found[-1].shape == (2, channels, 64 // part, 32 // part)


@torch.no_grad()
def test_tiles_are_images_of_their_own_and_join_to_the_whole() -> None:
    x = image(2, 8, 12, batch=3)
    tiles = split(x, 2, 2)
    assert torch.equal(tiles[1], x[0, :, :4, 6:])
    assert torch.equal(joined(tiles, 2, 2), x)
    assert torch.equal(joined(joined(tiles, 1, 2), 2, 1), x)


# ------------------------------------------------------------------------------------------------------- FSNet


@torch.no_grad()
def test_fsnet_does_not_remember_the_size_of_the_first_image() -> None:
    model, fresh = CASES["fsnet"].build().eval(), CASES["fsnet"].build().eval()
    model(image(3, 96, 96))
    x = image(3, 32, 48)
    for y, expected in zip(model(x), fresh(x), strict=True):
        assert torch.equal(y, expected)


def test_a_local_mean_is_that_of_the_window_and_repeats_at_the_border() -> None:
    x = image(1, 16, 32)
    mean = LocalMean(80)(x)  # windows of 5 x 10
    torch.testing.assert_close(mean[0, 0, 7, 20], x[0, 0, 5:10, 16:26].mean())
    torch.testing.assert_close(mean[0, 0, 15, 0], x[0, 0, 11:, :10].mean())


def test_fsnet_with_frozen_statistics_keeps_them_in_training() -> None:
    model = CASES["fsnet_frozen"].build().train()
    before = {key: value.clone() for key, value in model.named_buffers()}
    model(image(3, 16, 16, batch=2))
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())


# ------------------------------------------------------------------------------------------- AdaIR and DGUNet


@pytest.mark.parametrize(("side", "empty"), [(248, True), (256, False)])
def test_a_map_below_256_pixels_has_no_low_frequencies(side: int, empty: bool) -> None:
    x = image(2, side, side)
    low, high = split_frequencies(x, torch.full((1, 2), 0.9, dtype=x.dtype))
    assert bool((low == 0).all()) is empty
    if empty:
        torch.testing.assert_close(high, x.abs())


def test_a_projection_to_a_basis_is_one_and_bears_dependent_vectors() -> None:
    basis, x = image(16, 8, 8, key="basis") - 0.5, image(5, 8, 8)
    once = projected(x, basis)
    torch.testing.assert_close(projected(once, basis), once)
    torch.testing.assert_close(((x - once).flatten(2) @ basis.flatten(2).mT).abs().max().item(), 0.0)
    dependent = torch.cat([basis[:, :8], 3 * basis[:, :7], torch.zeros_like(basis[:, :1])], dim=1)
    assert projected(x, dependent).isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(projected(x.float(), basis.float()), once.float(), rtol=1e-4, atol=1e-4)


def test_two_networks_share_no_slope() -> None:
    fields = CASES["dgunet"].fields
    first, second = (set(build("dgunet", **fields).parameters()) for _ in range(2))
    assert not first & second
