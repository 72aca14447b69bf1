"""Dead leaves: synthetic images with the statistics of natural ones, as pure functions of (seed, n).

Opaque shapes of random size, place, colour and texture cover each other (Matheron 1968; Lee, Mumford, Huang, "Occlusion
models for natural images", IJCV 2001). Radii whose density is proportional to r^-3 make the images invariant to scale,
as natural images nearly are. Networks that train on such images alone restore photographs (Achddou, Gousseau, Ladjal,
"Synthetic images as a regularity prior for image restoration neural networks", SSVM 2021).

Random numbers are keyed and exact. The arithmetic is float64, and only the pixels are rounded, to 8 bits, so that
mathematical libraries that differ in the last bit practically never give another pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cmtl_ir.base import keyed
from cmtl_ir.base.files import write_whole
from cmtl_ir.tasks.images.cache import default_cache, writable
from cmtl_ir.tasks.images.encode import encoded

SIDE = 256
"""Height and width in pixels."""
SMALLEST, LARGEST = 3.0, 128.0
"""Range of the radii in pixels."""
MARGIN = 32
"""Pixels around the image where shapes may have their centre, too."""
LEAVES = 3000
"""Number of shapes, from back to front. On average, six of them cover a pixel."""
VERSION = 1
"""Part of the names of the stored files. Increment it when the same (seed, n) gives other pixels."""
DRAWN = 16
"""Random numbers per shape."""
Floats = NDArray[np.float64]


def dead_leaves(seed: int, number: int, side: int = SIDE) -> NDArray[np.uint8]:
    """Return image `number` of a seed, [side, side, 3] uint8 RGB."""
    base = keyed.name_key(seed, "dead leaves", number)
    keys = keyed.keys_of(base, torch.arange(LEAVES + 1))
    drawn = keyed.uniform(keys, (DRAWN,)).double().numpy()  # [LEAVES + 1, 16]
    grain = keyed.uniform(keyed.keys_of(base, torch.tensor([-1])), (side, side, 3))[0].double().numpy()
    grain = grain.sum(axis=2, keepdims=True) * 2 - 3  # nearly normal, of variance 1, and exact on every machine
    image = np.empty((side, side, 3))
    image[:] = _colour(drawn[-1])
    for leaf, radius in zip(drawn[:-1], radii(drawn[:-1, 0]), strict=True):
        _paint(image, leaf, float(radius), grain)
    blurred = _blurred(image, 0.25 * drawn[-1, 0])
    return np.asarray((blurred.clip(0, 1) * 255).round(), dtype=np.uint8)


def radii(uniform: Floats) -> Floats:
    """Return radii [N] of density proportional to r^-3 between SMALLEST and LARGEST, from uniform numbers [N]."""
    least, most = SMALLEST**-2, LARGEST**-2
    return np.asarray((least - uniform * (least - most)) ** -0.5)


def _paint(image: Floats, leaf: Floats, radius: float, grain: Floats) -> None:
    """Paint one shape over an image [H, W, 3]. `leaf` [16] are its random numbers, `grain` is noise [H, W, 1]."""
    side = len(image)
    centre = leaf[1:3] * (side + 2 * MARGIN) - MARGIN
    top, left = np.maximum(np.floor(centre - 1.5 * radius), 0).astype(int)
    bottom, right = np.minimum(np.ceil(centre + 1.5 * radius), side).astype(int)
    if top >= bottom or left >= right:
        return
    down, across = np.arange(top, bottom)[:, None] - centre[0], np.arange(left, right)[None] - centre[1]
    cosine, sine = np.cos(leaf[3] * 2 * np.pi), np.sin(leaf[3] * 2 * np.pi)
    along, beside = (down * cosine + across * sine) / radius, (across * cosine - down * sine) / radius
    inside = _inside(along, beside, leaf)
    wave = np.sin(along * radius * (0.2 + 1.3 * leaf[5]) + 2 * np.pi * leaf[6])  # periods of 4 to 31 pixels
    shade = (leaf[7] - 0.5) * 0.4 * beside + wave * 0.12 * max(0.0, leaf[8] * 2 - 1)
    shade = shade[..., None] + grain[top:bottom, left:right] * 0.08 * leaf[9] ** 2
    image[top:bottom, left:right][inside] = (_colour(leaf) + shade)[inside]


def _inside(along: Floats, beside: Floats, leaf: Floats) -> NDArray[np.bool_]:
    """Return which points are inside the shape: a disc, an ellipse or a rectangle, equally likely."""
    aspect = 0.3 + 0.7 * leaf[4]
    kind = int(leaf[10] * 3)
    if kind == 2:
        return np.asarray((abs(along) < 1) & (abs(beside) < aspect))
    return np.asarray(along**2 + (beside / (1.0 if kind == 0 else aspect)) ** 2 < 1)


def _colour(leaf: Floats) -> Floats:
    """Return a colour [3]: any brightness, and channels that are correlated, as those of photographs are."""
    return np.asarray(0.05 + 0.9 * leaf[11] + (leaf[12:15] - 0.5) * 0.5 * leaf[15])


def _blurred(image: Floats, weight: float) -> Floats:
    """Return the image [H, W, 3] filtered by (weight, 1 - 2 weight, weight) down and across, borders repeated."""
    for axis in (0, 1):
        padded = np.pad(image, [(1, 1) if one == axis else (0, 0) for one in range(3)], mode="edge")
        before, after = (padded.take(range(start, start + image.shape[axis]), axis) for start in (0, 2))
        image = image * (1 - 2 * weight) + (before + after) * weight
    return image


def rendered_files(count: int, cache: Path | None = None) -> dict[str, Path]:
    """Return name -> PNG file of the first `count` images of seed 0. Those that are missing are rendered.

    They are kept below `cache`. `None` is the default folder.
    """
    folder = writable((cache or default_cache()) / f"dead_leaves-{VERSION}")
    files = {f"dead_leaves/{number:04}.png": folder / f"{number:04}.png" for number in range(count)}
    for number, file in enumerate(files.values()):
        if not file.exists():
            pixels = torch.from_numpy(dead_leaves(0, number)).permute(2, 0, 1)[None] / 255
            write_whole(file, encoded(pixels, "PNG"))
    return files
