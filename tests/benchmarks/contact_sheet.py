"""A picture of every degradation: `python tests/benchmarks/contact_sheet.py sheet.png [--photo coffee] [NAME ...]`.

One row a degradation: two draws at default ranges, then severities 1, 3 and 5; input PSNR under each name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

from cmtl_ir.base.keyed import keys_of
from cmtl_ir.strategy import registry

COLUMNS = ("draw 0", "draw 1", "severity 1", "severity 3", "severity 5")


def photograph(name: str) -> Tensor:
    """[1, 3, h, w] in [0, 1]: a photograph of scikit-image."""
    return torch.from_numpy(getattr(data, name)().copy()).permute(2, 0, 1)[None].float() / 255


def degraded(part: Any, image: Tensor, draw: int) -> Tensor:
    """The whole image under the draw's key: [1, 3, h, w]."""
    size = torch.tensor([image.shape[2:]])
    return part(image, keys_of(3, torch.tensor([draw])), torch.zeros(1, 2, dtype=torch.int64), size)


def row(name: str, image: Tensor) -> list[Tensor]:
    """The five images of a degradation."""
    cls: Any = registry.load("degradation", name)
    parts = [cls(), cls(), *(cls.at_severity(level) for level in (1, 3, 5))]
    return [degraded(part, image, draw) for draw, part in enumerate(parts)]


def sheet(names: list[str], image: Tensor) -> Image.Image:
    """All rows with labels."""
    height, width = image.shape[2:]
    canvas = Image.new("RGB", (len(COLUMNS) * (width + 4), len(names) * (height + 16)), "white")
    pen = ImageDraw.Draw(canvas)
    for at, name in enumerate(names):
        for column, one in enumerate(row(name, image)):
            psnr = -10 * torch.log10((one - image).square().mean()).item()
            corner = (column * (width + 4), at * (height + 16))
            pen.text(corner, f"{name}, {COLUMNS[column]}: {psnr:.1f} dB", fill="black")
            pixels = (one[0] * 255).round().byte().permute(1, 2, 0).numpy()
            canvas.paste(Image.fromarray(pixels), (corner[0], corner[1] + 14))
    return canvas


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="where to write the PNG")
    parser.add_argument("names", nargs="*", help="degradations; all when none is named")
    parser.add_argument("--photo", default="coffee", help="a colour photograph of skimage.data")
    given = parser.parse_args()
    sheet(given.names or registry.names("degradation"), photograph(given.photo)).save(given.path)


if __name__ == "__main__":
    main()
