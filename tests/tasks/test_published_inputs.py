"""Degraded inputs of the standard test images reach their published scores in a whole evaluation.

The images are not ours to ship: without a folder of them in CMTL_IR_TEST_DATA only the theory is checked.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.measures.curve import task_means
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.measures.metrics.psnr import psnr
from cmtl_ir.measures.protocol import Protocol
from cmtl_ir.tasks.datasets.named import pairs_of
from cmtl_ir.tasks.degradations.gaussian_noise import GaussianNoise
from cmtl_ir.tasks.images.decode import decode, image_files
from cmtl_ir.tasks.images.pairs import open_pairs
from cmtl_ir.tasks.sources import PairsConfig
from tests.tasks.degradation_inputs import photo
from tests.tasks.tasks import CPU, built

DATA = Path(os.environ.get("CMTL_IR_TEST_DATA", "no such folder"))
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="CMTL_IR_TEST_DATA names no folder with the field's images")


def identity_scores(task: dict[str, Any], protocol: str, **data: Any) -> dict[str, float]:
    """Task -> mean PSNR in dB of the degraded input, as a table's first row has it."""
    tasks = built({"one": task}, patch=16, **data)
    rows = Evaluator(tasks, protocol, 1024, CPU).scores(_Untouched())
    assert task_means(rows) == task_means(rows, "psnr_input")
    return task_means(rows)


class _Untouched(nn.Module):
    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return x


# ------------------------------------------------------------------------------------------------------------ pairs


@with_data
@pytest.mark.parametrize(
    ("name", "folder", "protocol", "expected", "within"),
    [
        # measured by others on the very pairs that are there
        ("sots_outdoor", "SOTS_sample/outdoor", "basicsr_rgb", 18.25, 0.005),
        ("its", "ITS_sample", "basicsr_rgb", 12.1, 0.05),
        ("rain13k", "Rain13K_sample", "basicsr_rgb", 21.3, 0.25),
        ("polyu", "PolyU", "basicsr_rgb", 36.0, 0.5),
        # published of a hundred pairs, of which ten are there: within three standard errors
        ("rain100l", "Rain100L", "matlab_y", 26.90, None),
        ("rain100h", "Rain100H", "matlab_y", 13.56, None),
    ],
)
def test_degraded_pairs_score_as_published(
    name: str, folder: str, protocol: str, expected: float, within: float | None
) -> None:
    split = {"its": "train", "rain13k": "train", "polyu": "all"}.get(name, "test")
    config = PairsConfig(dataset=name, root=str(DATA / folder), split=split)
    pairs = open_pairs(pairs_of(config, "train", None))
    scores = torch.cat([psnr(*map(_tensor, pairs.pair(number)), protocol) for number in range(len(pairs))])
    error = within if within is not None else 3 * scores.std().item() / math.sqrt(len(scores))
    assert scores.mean().item() == pytest.approx(expected, abs=error)


def _tensor(image: np.ndarray) -> Tensor:  # [H, W, 3] -> [1, 3, H, W]
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255.0


# ------------------------------------------------------------------------------------------------------------ noise


def expected_psnr(clean: Tensor, sigma: float) -> float:
    """Of Gaussian noise on 8-bit levels, rounded and clipped: the exact mean squared error, from the histogram."""
    levels = torch.arange(256, dtype=torch.float64)
    upper = torch.cat([levels[:-1] + 0.5, torch.tensor([math.inf], dtype=torch.float64)])
    below = torch.special.ndtr((upper[None] - levels[:, None]) / sigma)  # [clean level, noisy level]
    mass = torch.diff(below, dim=1, prepend=torch.zeros(256, 1, dtype=torch.float64))
    errors = (mass * (levels[None] - levels[:, None]).square()).sum(1)
    return 10 * math.log10(255**2 / errors[(clean * 255).round().long()].mean().item())


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_noise_scores_what_theory_says(sigma: float) -> None:
    clean, *rest = photo()
    noisy = GaussianNoise(sigma=(sigma,))(clean, *rest)
    assert psnr(noisy, clean, "basicsr_rgb").item() == pytest.approx(expected_psnr(clean, sigma), abs=0.05)


@with_data
def test_noise_on_kodak_scores_what_theory_says() -> None:
    """Clipping to 8 bits lifts it above the unclipped 24.61, 20.17 and 14.15 dB, which some papers print."""
    noise = {"degradation": "gaussian_noise", "sigma": [25], "test": {"clean": {"dataset": "kodak24"}}}
    found = identity_scores(noise, "basicsr_rgb", root=str(DATA), test_limit=6)["one"]
    images = [_tensor(decode(path)) for path in list(image_files(DATA / "Kodak24").values())[:6]]
    theory = sum(expected_psnr(image, 25) for image in images) / len(images)
    assert found == pytest.approx(theory, abs=0.01) and found > 20.17 + 0.1


# --------------------------------------------------------------------------------------------------- super-resolution


@with_data
@pytest.mark.parametrize(("factor", "published"), [(2, 33.66), (4, 28.42)])
def test_bicubic_on_set5_scores_as_published(factor: int, published: float) -> None:
    """The first row of every table of super-resolution: Y, a border of the factor, MATLAB's bicubic."""
    from cmtl_ir.tasks.degradations.downsampling import Downsampling

    protocol, part = Protocol("sr", colour="y_float", border=factor), Downsampling(factor=(factor,))
    scores = []
    for path in sorted((DATA / "Set5" / f"image_SRF_{factor}").glob("*HR.png")):
        clean = _tensor(decode(path))
        height, width = (side - side % factor for side in clean.shape[2:])
        clean = clean[..., :height, :width]
        size = torch.tensor([[height, width]])
        degraded = part(clean, torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64), size)
        scores.append(psnr(degraded, clean, protocol).item())
    assert sum(scores) / len(scores) == pytest.approx(published, abs=0.05)
