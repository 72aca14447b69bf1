"""JPEG compression by libjpeg."""

from __future__ import annotations

from io import BytesIO
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cmtl_ir.strategy.registry import register
from cmtl_ir.tasks.degradations._graded import Graded, drawn_whole
from cmtl_ir.tasks.degradations._limits import Whole, within

BLOCK = 16
"""Side in pixels of a coding unit with colour at half resolution; a multiple of the 8 of all other cases."""


@register
class Jpeg(Graded):
    """JPEG through Pillow's libjpeg, sample by sample on the CPU (qualities of MiOIR, Kong et al. 2024).

    A crop is coded on the block grid of its full image, as KAIR does by cropping again after coding. Pixels before the
    crop are reflected; pixels behind it are padded by the codec. A whole image is exactly what Pillow writes.
    """

    severities: ClassVar = {"quality": ((25, 25), (18, 18), (15, 15), (10, 10), (7, 7))}  # ImageNet-C

    quality: Annotated[Whole, within(1, 100)] = (30, 70)
    """Quality (MiOIR: 30 to 70, hard test 10 to 30; DA-CLIP: 10; BSRGAN and Real-ESRGAN: 30 to 95)."""
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    """4:2:0: colour at half resolution, as codecs do by default. 4:4:4: colour at full resolution."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {"quality": drawn_whole(keys, "quality", self.quality)}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        images = (clean * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        phases = (origin % BLOCK).tolist()
        qualities = parameters["quality"].int().tolist()
        coded = [self._coded(*sample) for sample in zip(images, phases, qualities, strict=True)]
        return torch.from_numpy(np.stack(coded)).to(clean.device).permute(0, 3, 1, 2).contiguous().float() / 255

    def _coded(self, image: np.ndarray, phase: list[int], quality: int) -> np.ndarray:
        top, left = phase
        wide = np.pad(image, ((top, 0), (left, 0), (0, 0)), mode="reflect")
        buffer = BytesIO()
        Image.fromarray(wide).save(buffer, "JPEG", quality=quality, subsampling=self.subsampling)
        return np.asarray(Image.open(buffer))[top:, left:]
