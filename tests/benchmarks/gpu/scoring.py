"""The evaluation of 100 test images against a plain script that restores and scores them one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from cmtl_ir.backbones.building import initial_model
from cmtl_ir.config.reading import validate
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.tasks.suite import build_tasks
from tests.benchmarks.gpu.cases import Sizes, finished


def make_pairs(folder: Path, count: int, height: int, width: int) -> None:
    """Write pairs of a smooth image and the same with noise as PNG files in input/ and target/."""
    generator = np.random.default_rng(0)
    for side in ("input", "target"):
        (folder / side).mkdir(parents=True)
    for number in range(count):
        coarse = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        clean = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        noisy = np.clip(clean + generator.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)
        for side, image in (("input", noisy), ("target", clean)):
            Image.fromarray(image).save(folder / side / f"{number:03d}.png", compress_level=1)


@torch.no_grad()
def plain(model: nn.Module, folder: Path, device: str) -> list[float]:
    """Return the PSNR of each image as the authors' test scripts compute it: decode, restore, score on the CPU."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    scores = []
    for file in sorted((folder / "input").iterdir()):
        noisy, clean = (np.asarray(Image.open(folder / side / file.name)) for side in ("input", "target"))
        x = torch.from_numpy(noisy.copy()).permute(2, 0, 1)[None].to(device).float() / 255
        height, width = (side // 16 * 16 for side in x.shape[-2:])
        top, left = ((side - kept) // 2 for side, kept in zip(x.shape[-2:], (height, width), strict=True))
        area = (slice(top, top + height), slice(left, left + width))
        restored = model(x[..., area[0], area[1]]).clamp(0, 1)[0].permute(1, 2, 0).cpu().numpy()
        target = clean[area].astype(np.float32) / 255
        structural_similarity(target, restored, data_range=1, channel_axis=-1)
        scores.append(float(peak_signal_noise_ratio(target, restored, data_range=1)))
    return scores


def evaluator_of(folder: Path, sizes: Sizes, cache: Path) -> Evaluator:
    """Return the evaluator of the pairs under PromptIR's protocol, as `cmtl-ir evaluate` makes it."""
    pairs = {side: str(folder / side) for side in ("input", "target")}
    train = {side: str(folder.parent / "train" / side) for side in ("input", "target")}
    raw: dict[str, Any] = {
        "name": "scoring", "tasks": {"denoise": {**train, "test": pairs}}, "data": {"patch": 16},
        "strategies": {"joint": {}},
    }  # fmt: skip
    made, device = validate(raw, "scoring"), torch.device(sizes.device)
    tasks = build_tasks(made.tasks, made.data, 0, device, cache)
    return Evaluator(tasks, made.evaluation.protocol, made.evaluation.tile, device, metrics=made.evaluation.metrics)


def table(sizes: Sizes) -> None:
    """Print one line per way: a plain script, our first evaluation with the packing of the images, and a later one."""
    count, height, width = (2, 40, 40) if sizes.tiny else (100, 321, 481)
    model = initial_model(sizes.backbone("nafnet"), 0).to(sizes.device).eval()
    print("| way | s | times plain | mean PSNR |\n|---|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        make_pairs(home / "test", count, height, width)
        make_pairs(home / "train", 2, height, width)
        plain(model, home / "train", sizes.device)  # loads the kernels
        start = finished(sizes.device)
        expected = float(np.mean(plain(model, home / "test", sizes.device)))
        base = finished(sizes.device) - start
        print(f"| plain script | {base:.2f} | 1.00 | {expected:.4f} |", flush=True)
        start = finished(sizes.device)
        evaluator = evaluator_of(home / "test", sizes, home / "cache")
        for way in ("ours, first", "ours, again"):
            scores = [row["psnr"] for row in evaluator.scores(model)]
            seconds = finished(sizes.device) - start
            print(f"| {way} | {seconds:.2f} | {base / seconds:.2f} | {np.mean(scores):.4f} |", flush=True)
            start = finished(sizes.device)
        if not np.isclose(np.mean(scores), expected, atol=1e-2):
            raise RuntimeError(f"the two ways disagree: {np.mean(scores):.4f} and {expected:.4f} dB")
