"""Images to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor


def write_image(path: Path, image: Tensor) -> Path:
    """Write [1, 3, H, W] in [0, 1] as an 8-bit PNG (rounded)."""
    pixels = (image[0].detach().cpu().clamp(0, 1) * 255.0).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path
