"""Resident memory of packing and training, for stores of more and more images of 2 megapixels.

    python -m tests.benchmarks.memory [--images 50 300] [--steps 60]
    python -m tests.benchmarks.memory --store 10000

With --store, one store of that many images is packed, and trained from until more than 4 GiB were read. The exit code
is 1 if more than 4 GiB were resident. A store has 6 MB per image; the folder of temporary files (TMPDIR) needs that.

Every size has its own process, whose peak (of file pages, too) is read after packing and after training. Of the pixels,
half a gigabyte may be resident (cmtl_ir.tasks.images.mapping); the index with names, places and hashes is held whole.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HEIGHT, WIDTH, BATCH, PATCH = 1250, 1600, 32, 128
GOAL = 4096.0
"""Largest resident memory of a run over a large store, in MB."""
SETTING: dict[str, Any] = {
    "name": "memory",
    "tasks": {"noise": {"degradation": "gaussian_noise"}},
    "data": {"patch": PATCH, "test_limit": 1, "test_crop": 128},
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
    """Pack the images, train on their crops, and print the figures of a row of the table as JSON."""
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
    raw = merged(SETTING, {"data": {"clean": str(images)}, "training": {"steps": steps, "batch": BATCH}})
    made, device = validate(raw, "memory"), torch.device("cpu")
    tasks = build_tasks(made.tasks, made.data, 0, device, cache)
    train(Learner(made, made.strategies["joint"], tasks, 0, device), Silent())
    size, index = len(opened.pack.pixels) / 1e6, next(cache.glob("packs/*/index.json")).stat().st_size / len(opened)
    print(json.dumps([len(opened), size, index, start, packed, peak(), steps * _touched() / 1e6]))


def _touched() -> int:
    """Return the number of bytes that the crops of a step read, as whole rows of pixels."""
    return BATCH * PATCH * WIDTH * 3


def row_of(count: int, steps: int) -> list[float]:
    """Return the figures of a store of `count` images, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "images").mkdir()
        make_images(home / "images", count)
        again = [sys.executable, "-m", "tests.benchmarks.memory", "--measure", folder, "--steps", str(steps)]
        return json.loads(subprocess.run(again, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def main(given: list[str] | None = None) -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[50, 300])
    parser.add_argument("--steps", type=int, help="default: 60, or with --store those that read 4 GiB")
    parser.add_argument("--store", type=int, metavar="N")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    if options.measure is not None:
        measure(options.measure / "images", options.measure / "cache", options.steps)
        return 0
    steps = options.steps or (60 if options.store is None else int(GOAL * 2**20 / _touched()) + 1)
    print("MB; peaks of resident memory\n")
    print("| images | store | index, bytes per image | imports | packed | trained | bytes read by crops |")
    print("|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    most = 0.0
    for count in options.images if options.store is None else [options.store]:
        row = row_of(count, steps)
        print(f"| {' | '.join(f'{value:,.0f}' for value in row)} |", flush=True)
        most = max(most, *row[3:6])
    if options.store is None:
        return 0
    print(f"\n{'within' if most <= GOAL else 'OVER'} 4 GiB: at most {most / 1024:.2f} GiB were resident")
    return int(most > GOAL)


if __name__ == "__main__":
    sys.exit(main())
