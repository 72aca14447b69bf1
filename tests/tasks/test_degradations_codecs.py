"""JPEG, resizing and mosaics compared with Pillow, PyTorch and the clean image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cmtl_ir.tasks.degradations.downsampling import Downsampling
from cmtl_ir.tasks.degradations.jpeg import Jpeg
from cmtl_ir.tasks.degradations.jpeg_fast import JpegFast
from cmtl_ir.tasks.degradations.mosaic import Mosaic
from tests.tasks.degradation_inputs import PHOTO, grey, photo


def bytes_of(image: Tensor) -> np.ndarray:
    """[1, 3, h, w] -> [h, w, 3] uint8"""
    return (image[0] * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("quality", [10, 40, 90])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_jpeg_of_a_whole_image_is_pillows(quality: int, subsampling: Any) -> None:
    image = PHOTO[:, :, :187, :203]
    ours = Jpeg(quality=(quality, quality), subsampling=subsampling)(image, *photo()[1:])
    buffer = io.BytesIO()
    Image.fromarray(bytes_of(image)).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    assert np.array_equal(bytes_of(ours), np.asarray(Image.open(buffer)))


@pytest.mark.parametrize("quality", [10, 30, 50, 70, 95])
def test_fast_jpeg_is_near_the_codec(quality: int) -> None:
    fast, exact = (part(quality=(quality, quality))(*photo()) for part in (JpegFast, Jpeg))
    assert ((fast - exact).abs().mean() * 255).item() < 0.8
    scores = [-10 * torch.log10((image - PHOTO).square().mean()).item() for image in (fast, exact)]
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_downsampling_is_pillows_bicubic(factor: int) -> None:
    image = PHOTO[:, :, :180, :204]
    ours = Downsampling(factor=(factor,))(image, *photo()[1:])[0]
    theirs = []
    for channel in image[0].numpy():
        small = Image.fromarray(channel, "F").resize((204 // factor, 180 // factor), Image.Resampling.BICUBIC)
        theirs.append(np.asarray(small.resize((204, 180), Image.Resampling.BICUBIC)))
    inner = slice(4 * factor, -4 * factor)
    expected = torch.from_numpy(np.stack(theirs)).clamp(0, 1)
    torch.testing.assert_close(ours[:, inner, inner], expected[:, inner, inner], atol=1e-5, rtol=0)


def test_downsampling_without_antialias_is_miois() -> None:
    ours = Downsampling(factor=(4,), antialias=False)(*photo())
    small = F.interpolate(PHOTO, scale_factor=0.25, mode="bicubic")
    expected = F.interpolate(small, scale_factor=4, mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(ours[..., 16:-16, 16:-16], expected[..., 16:-16, 16:-16], atol=1e-5, rtol=0)


def test_mosaic_keeps_one_colour_a_pixel_and_flat_areas() -> None:
    raw = Mosaic(patterns=("rggb",), demosaic="none")(*photo())[0]
    assert torch.equal(raw[0, ::2, ::2], PHOTO[0, 0, ::2, ::2])
    assert torch.equal(raw[2, 1::2, 1::2], PHOTO[0, 2, 1::2, 1::2])
    assert torch.equal(raw[1, ::2, 1::2], PHOTO[0, 1, ::2, 1::2])
    assert torch.equal((raw > 0).sum(0) <= 1, torch.ones(192, 208, dtype=torch.bool))
    torch.testing.assert_close(Mosaic()(*grey(0.6)), grey(0.6)[0])
