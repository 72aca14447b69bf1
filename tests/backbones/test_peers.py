"""The same weights give the same images in the classes of spandrel, a loader of published weights."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from torch import nn

from cmtl_ir import backbones
from tests.torchvision_schemas import ensure_torchvision

SWIN = {"depths": [2, 2], "img_size": 16, "window_size": 4, "embed_dim": 12, "num_heads": [2, 2], "mlp_ratio": 2}
OURS_SWIN = {"width": 12, "depths": [2, 2], "heads": [2, 2], "window": 4, "image_size": 16}
PEERS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    (
        "nafnet",
        {"width": 8, "encoder": [1, 2], "middle": 1, "decoder": [1, 1]},
        "NAFNet",
        {"width": 8, "enc_blk_nums": [1, 2], "middle_blk_num": 1, "dec_blk_nums": [1, 1]},
    ),
    ("swinir", OURS_SWIN, "SwinIR", SWIN),
    ("swinir", {**OURS_SWIN, "value_range": 255.0}, "SwinIR", {**SWIN, "img_range": 255.0}),
    (
        "swinir",
        {**OURS_SWIN, "upsampler": "pixelshuffle", "scale": 4},
        "SwinIR",
        {**SWIN, "upsampler": "pixelshuffle", "upscale": 4},
    ),
    (
        "swinir",
        {**OURS_SWIN, "upsampler": "pixelshuffle", "scale": 3},
        "SwinIR",
        {**SWIN, "upsampler": "pixelshuffle", "upscale": 3},
    ),
    ("unet", {"widths": [4, 6, 8, 10], "blocks": 2}, "DRUNet", {"in_nc": 3, "out_nc": 3, "nc": [4, 6, 8, 10], "nb": 2}),
]


def peer(name: str, fields: dict[str, Any]) -> nn.Module:
    if importlib.util.find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    ensure_torchvision()  # spandrel imports it
    module = importlib.import_module(f"spandrel.architectures.{name}")
    return getattr(module, name)(**fields).eval()


@torch.no_grad()
@pytest.mark.parametrize(("name", "fields", "their_name", "their_fields"), PEERS)
@pytest.mark.parametrize("size", [(16, 16), (24, 40)])
def test_copied_weights_give_spandrels_image(
    name: str, fields: dict[str, Any], their_name: str, their_fields: dict[str, Any], size: tuple[int, int]
) -> None:
    theirs, ours = peer(their_name, their_fields), backbones.build(name, **fields).eval()
    for parameter in theirs.parameters():
        parameter.normal_(std=0.1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
