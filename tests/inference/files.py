"""A small checkpoint, photographs and commands that the tests of this folder share."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage import data, io
from torch import nn

from cmtl_ir import backbones, cli
from cmtl_ir.inference.published import Published, published

FIELDS = ["width=4", "encoder=[1]", "decoder=[1]"]
CPU = torch.device("cpu")


def network(seed: int = 3) -> nn.Module:
    """A network whose answer is not its input."""
    torch.manual_seed(seed)
    model = backbones.build("nafnet", width=4, encoder=[1], decoder=[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def checkpoint(folder: Path, seed: int = 3) -> Published:
    """The network of a seed, saved in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network(seed).state_dict(), folder / f"authors{seed}.pth")
    return published(folder / f"authors{seed}.pth", "nafnet", FIELDS)


@functools.cache
def photograph() -> np.ndarray:  # [512, 512, 3] uint8
    """The one that all pieces are of, which takes longer to decode than they do."""
    return data.astronaut()


def photo(path: Path, left: int = 0) -> Path:
    """A piece of a photograph, `left` pixels from its edge, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(photograph()[:45, left : left + 70])).save(path)
    return path


def answer(model: nn.Module, photo: Path) -> np.ndarray:  # [H, W, 3] uint8
    """The network's answer to an image, as a PNG holds it."""
    image = torch.from_numpy(io.imread(photo)).permute(2, 0, 1)[None] / 255.0
    with torch.no_grad():
        restored = model(image)[0].clamp(0, 1)
    return (restored * 255).round().byte().permute(1, 2, 0).numpy()


def command(*arguments: Any) -> int:
    """Exit code of a command, 0 where it ends well."""
    try:
        cli.main([str(one) for one in arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    return list(csv.DictReader(path.read_text().splitlines()))
