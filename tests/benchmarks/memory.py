"""Resident memory of packing and training, for stores of more and more images of 2 megapixels.

    python -m tests.benchmarks.memory [--images 50 300] [--steps 60]

Every size has its own process, whose peak (of file pages, too) is read after packing and after training. Of the pixels,
half a gigabyte may be resident (cmtl_ir.tasks.images.mapping); the index with names, places and hashes is held whole.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HEIGHT, WIDTH = 1250, 1600
SETTING: dict[str, Any] = {
    "name": "memory",
    "tasks": {"noise": {"degradation": "gaussian_noise"}},
    "data": {"patch": 128, "test_limit": 1, "test_crop": 128},
    "backbone": {"name": "nafnet", "width": 4, "encoder": [1], "middle": 1, "decoder": [1]},
    "strategies": {"joint": {}},
}


def peak() -> float:
    """Return the largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "linux" else 1024) / 1024


def make_images(folder: Path, count: int) -> None:
    """Write `count` different JPEG files of 2 megapixels."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (HEIGHT // 50, WIDTH // 50, 3), dtype=np.uint8)
    photograph = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    for number in range(count):
        shifted = np.roll(photograph, (number, 3 * number), (0, 1))
        Image.fromarray(shifted).save(folder / f"{number:05d}.jpg", quality=80)


def measure(images: Path, cache: Path, steps: int) -> None:
    """Pack the images, train on their crops, and print a row of the table."""
    import torch

    from cmtl_ir.config.reading import merged, validate
    from cmtl_ir.tasks.images.store import ImageStore
    from cmtl_ir.tasks.suite import build_tasks
    from cmtl_ir.training.learner import Learner
    from cmtl_ir.training.loop import train
    from tests.tiny import Silent

    start = peak()
    opened = ImageStore.open(images, cache)
    packed = peak()
    raw = merged(SETTING, {"data": {"clean": str(images)}, "training": {"steps": steps, "batch": 32}})
    made, device = validate(raw, "memory"), torch.device("cpu")
    tasks = build_tasks(made.tasks, made.data, 0, device, cache)
    train(Learner(made, made.strategies["joint"], tasks, 0, device), Silent())
    touched = steps * 32 * 128 * WIDTH * 3 / 1e6
    size, index = len(opened.pack.pixels) / 1e6, next(cache.glob("packs/*/index.json")).stat().st_size / len(opened)
    print(
        f"| {len(opened)} | {size:,.0f} | {index:.0f} | {start:.0f} | {packed:.0f} | {peak():.0f} | {touched:,.0f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[50, 300])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure / "images", options.measure / "cache", options.steps)
        return
    print("MB; peaks of resident memory\n")
    print("| images | store | index, bytes per image | imports | packed | trained | bytes read by crops |")
    print("|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for count in options.images:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            (home / "images").mkdir()
            make_images(home / "images", count)
            again = [sys.executable, "-m", "tests.benchmarks.memory", "--measure", folder]
            subprocess.run([*again, "--steps", str(options.steps)], check=True)


if __name__ == "__main__":
    main()
