"""Restored samples side by side: input, what each strategy makes of it, clean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .style import pyplot, save

CROP = 160
"""Side of the shown crop in pixels."""


def restored_strip(runs: Sequence[tuple[str, Path]], tasks: Sequence[str], path: Path) -> list[Path]:
    """Draw a row a task: input | one column a run | clean, each with its PSNR on the shown crop.

    `runs` are (label, folder of a finished run).
    """
    columns = ["input", *(label for label, _ in runs), "clean"]
    size = 1.75
    figure, axes = pyplot().subplots(
        len(tasks), len(columns), figsize=(size * len(columns), (size + 0.18) * len(tasks)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, task in enumerate(tasks):
        first = runs[0][1] / "restored"
        clean = _crop(first / f"{task}.clean.png")
        images = [_crop(first / f"{task}.input.png")]
        images += [_crop(folder / "restored" / f"{task}.restored.png") for _, folder in runs]
        for column, image in enumerate([*images, clean]):
            axis = axes[row][column]
            axis.imshow(image)
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(columns[column], fontsize=9)
            if column < len(images):
                axis.set_xlabel(f"{_psnr(image, clean):.1f} dB", fontsize=8, labelpad=2)
        axes[row][0].set_ylabel(task, fontsize=9)
    return save(figure, path)


def _crop(file: Path) -> np.ndarray:
    image = np.asarray(Image.open(file))
    top, left = (max(0, (length - CROP) // 2) for length in image.shape[:2])
    return image[top : top + CROP, left : left + CROP]


def _psnr(image: np.ndarray, clean: np.ndarray) -> float:
    error = np.mean((image.astype(float) - clean.astype(float)) ** 2)
    return float(10 * np.log10(255.0**2 / max(error, 1e-6)))
