"""Training samples per second of one core: the image store beside a DataLoader that decodes a file for every crop.

    python tests/benchmarks/store.py [FOLDER] [--patch 48 128]

Without a folder: the embedded photographs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cmtl_ir.tasks.config import DataConfig, TaskConfig
from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.images.decode import decode, image_files
from cmtl_ir.tasks.images.store import ImageStore
from cmtl_ir.tasks.suite import build_tasks

BATCH = 32


def rate(samples: Callable[[int], object], seconds: float = 1.0) -> float:
    """Samples per second of processor time, of a function of the first id; the best of three.

    Processor time: what else the machine does must not count. All ways work in this thread alone.
    """
    samples(0)
    best = 0.0
    for _ in range(3):
        done, started = 0, time.process_time()
        while (passed := time.process_time() - started) < seconds:
            samples(done)
            done += BATCH
        best = max(best, done / passed)
    return best


def main() -> None:
    """Print one line a way of getting samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="embedded")
    parser.add_argument("--patch", type=int, nargs="+", default=[48, 128])
    given = parser.parse_args()
    torch.set_num_threads(1)
    files = embedded_files("train") if given.folder == "embedded" else image_files(given.folder)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        started = time.perf_counter()
        store = ImageStore.of_files("benchmark", files, cache)
        first = time.perf_counter() - started
        started = time.perf_counter()
        ImageStore.of_files("benchmark", files, cache)
        print(f"{len(store)} images: first opening {first:.2f} s, later {1e3 * (time.perf_counter() - started):.1f} ms")
        for patch in given.patch:
            compare(list(files.values()), store, given.folder, patch, cache)


def compare(files: list[Path], store: ImageStore, folder: str, patch: int, cache: Path) -> None:
    """Print the ways for one size of crop."""
    data = DataConfig(clean=folder, patch=patch)
    config = TaskConfig.model_validate({"degradation": "gaussian_noise"})
    task = build_tasks({"noise": config}, data, 0, torch.device("cpu"), cache)["noise"]
    reference = rate(loading(files, patch))
    print(f"crops of {patch}x{patch}, batches of {BATCH}, samples a second of processor time (times plain):")
    print(f"  {'DataLoader that decodes, crops and flips':<42}{reference:>10,.0f}")
    ways = {
        "... with noise of sigma 25": loading(files, patch, 25.0),
        "decode and crop, no more": decoding(files, patch),
        "crop from the store": cropping(store, patch),
        "... drawn by id, flipped, as float tensors": lambda start: task._crops(task._cut(ids(start))),
        "... with gaussian_noise (Task.batch)": lambda start: task.batch(ids(start)),
    }
    for name, way in ways.items():
        reached = rate(way)
        print(f"  {name:<42}{reached:>10,.0f} ({reached / reference:,.0f}x)")


def ids(start: int) -> Tensor:
    """The next batch."""
    return torch.arange(start, start + BATCH)


class Decoded(Dataset[Tensor]):
    """One crop a file, as the field's repositories have it: open, decode, crop, flip, to a float tensor; with noise
    as they make it: drawn in double precision, added, clipped, to 8 bits."""

    def __init__(self, files: list[Path], patch: int, sigma: float | None = None) -> None:
        self.files, self.patch, self.sigma, self.generator = files, patch, sigma, np.random.default_rng(0)

    def __len__(self) -> int:
        return 1 << 30  # never an epoch's end within a measurement

    def __getitem__(self, index: int) -> Tensor:  # [3, P, P]
        image = decode(self.files[index % len(self.files)])
        top, left = (self.generator.integers(side - self.patch + 1) for side in image.shape[:2])
        crop = np.rot90(image[top : top + self.patch, left : left + self.patch], int(self.generator.integers(4)))
        if self.generator.integers(2):
            crop = crop[:, ::-1]
        if self.sigma is not None:
            noise = self.generator.standard_normal(crop.shape)
            crop = np.clip(crop + noise * self.sigma, 0, 255).astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).float() / 255


def loading(files: list[Path], patch: int, sigma: float | None = None) -> Callable[[int], Tensor]:
    """Batches of a DataLoader in this process."""
    batches = iter(DataLoader(Decoded(files, patch, sigma), batch_size=BATCH))
    return lambda start: next(batches)


def decoding(files: list[Path], patch: int) -> Callable[[int], None]:
    """What no loader without a store can do without: open and decode the whole image for each crop."""
    generator = np.random.default_rng(0)
    out = np.empty((BATCH, patch, patch, 3), np.uint8)

    def samples(start: int) -> None:
        for slot in range(BATCH):
            image = decode(files[generator.integers(len(files))])
            top, left = (generator.integers(side - patch + 1) for side in image.shape[:2])
            out[slot] = image[top : top + patch, left : left + patch]

    return samples


def cropping(store: ImageStore, patch: int) -> Callable[[int], None]:
    """Random crops of the packed pixels, upright."""
    sizes = torch.from_numpy(store.sizes)
    out, upright = torch.empty(BATCH, 3, patch, patch, dtype=torch.uint8), torch.zeros(BATCH, dtype=torch.int64)

    def samples(start: int) -> None:
        numbers = torch.randint(len(store), (BATCH,))
        corners = torch.randint(1 << 31, (BATCH, 2)) % (sizes[numbers] - patch + 1)
        store.crops(numbers, corners, upright, out)

    return samples


if __name__ == "__main__":
    main()
