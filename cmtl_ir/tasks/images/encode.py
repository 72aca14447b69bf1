"""Write images to files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cmtl_ir.base.files import write_whole


def write_image(path: Path, image: Tensor) -> Path:
    """Write [1, 3, H, W] in [0, 1] as an 8-bit PNG (rounded), completely or not at all. An OSError names the file."""
    return write_whole(path, encoded(image, "PNG"))


def encoded(image: Tensor, kind: str, **options: Any) -> bytes:
    """Return the file of [1, 3, H, W] in [0, 1] with 8 bits per channel (rounded), in a format that Pillow knows.

    `options` are those of Pillow's writer of the format, such as `quality`.
    """
    file = io.BytesIO()
    _picture(image).save(file, kind, **options)
    return file.getvalue()


def _picture(image: Tensor) -> Image.Image:
    pixels = (image[0].detach().cpu().clamp(0, 1) * 255.0).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels))
