"""One image through a network and into its file, with every failure as a sentence that names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError, brief, lacks_memory
from cmtl_ir.base.files import write_whole
from cmtl_ir.inference.journal import Journal
from cmtl_ir.inference.targets import FORMATS, LOSSY, Job
from cmtl_ir.tasks.images.decode import ImageError, decode
from cmtl_ir.tasks.images.encode import encoded

SKIP_OR_CONTINUE = (
    ", or give --on-error skip to leave such images out. Images before it are restored: the same command continues"
)


class ImageFailed(UserError):
    """An image that cannot be read, or that the network cannot restore."""


def restored(answer: Callable[[Tensor, Path], Tensor], file: Path, device: torch.device) -> Tensor:
    """Return the restored image of a file, [1, 3, H, W] in [0, 1]. Raises ImageFailed naming it."""
    try:
        pixels = decode(file)
    except ImageError as error:
        remedy = error.remedy if error.remedy == ImageError.REPAIR else "convert it to 8 bits, or remove it"
        raise ImageFailed(f"{error.path}: {error.reason}; {remedy}") from error  # `data.bits` is for experiments
    height, width = pixels.shape[:2]
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(device).float() / 255.0
    try:
        result = answer(image, file)
    except UserError:
        raise
    except (RuntimeError, ValueError, LookupError, ArithmeticError, AssertionError) as error:
        way_out = (
            "give a smaller --tile or --device cpu" if lacks_memory(error) else "enlarge it, or crop it to even sides"
        )
        raise ImageFailed(
            f"{file}: the network fails on its {width}x{height} pixels: {brief(error)}; {way_out}"
        ) from error
    if not (finite := result.isfinite()).all():
        share = 1 - finite.float().mean().item()
        raise ImageFailed(
            f"{file}: the network's answer is NaN in {share:.0%} of the image; check its weights, or remove the file"
        )
    return result


def write_restored(job: Job, image: Tensor, quality: int, journal: Journal | None) -> None:
    """Write [1, 3, H, W] as a whole, in the format of its target's suffix. Raises UserError naming the file."""
    kind = FORMATS[job.target.suffix.lower()]
    content = encoded(image, kind, **({"quality": quality} if kind in LOSSY else {}))
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(job.target, content)
        if journal is not None:
            journal.add(job, content)
    except OSError as error:
        raise UserError(
            f"{job.target} could not be written: {error.strerror or error}; free some space or make its folder "
            "writable, and give the same command again"
        ) from error
