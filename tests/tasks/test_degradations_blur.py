"""Blurs: kernels, and convolution compared with SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.ndimage import convolve as scipy_convolve

from cmtl_ir.base.keyed import keys_of
from cmtl_ir.tasks.degradations._filters import convolve
from cmtl_ir.tasks.degradations.defocus_blur import DefocusBlur
from cmtl_ir.tasks.degradations.gaussian_blur import GaussianBlur
from cmtl_ir.tasks.degradations.motion_blur import MotionBlur
from tests.tasks.degradation_inputs import KEYS, PHOTO, grey


def test_convolution_is_scipys() -> None:
    kernel = torch.rand(1, 7, 7, generator=torch.Generator().manual_seed(0))
    ours = convolve(PHOTO, kernel)[0]
    theirs = [scipy_convolve(channel, kernel[0].numpy(), mode="mirror") for channel in PHOTO[0].numpy()]
    torch.testing.assert_close(ours, torch.from_numpy(np.stack(theirs)), atol=2e-5, rtol=0)


@pytest.mark.parametrize("part", [GaussianBlur(), DefocusBlur(), MotionBlur()], ids=lambda part: type(part).__name__)
def test_kernels_are_distributions_that_displace_nothing(part: GaussianBlur | DefocusBlur | MotionBlur) -> None:
    parameters = part.parameters(KEYS)
    kernels = (
        parameters["kernel"]
        if isinstance(part, MotionBlur)
        else part.kernels(parameters["radius"] if isinstance(part, DefocusBlur) else parameters)  # type: ignore[arg-type]
    )
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(6))
    offsets = torch.arange(kernels.shape[1], dtype=torch.float32) - kernels.shape[1] // 2
    for axis in (1, 2):
        assert ((kernels.sum(axis) * offsets).sum(1)).abs().max() < 1e-3
    torch.testing.assert_close(part(*grey(0.6)), grey(0.6)[0])


def test_gaussian_kernel_has_its_sigma() -> None:
    part = GaussianBlur(sigma=(2, 2), window=(21, 21))
    kernel = part.kernels(part.parameters(KEYS[:1]))[0].sum(0)
    offsets = torch.arange(21) - 10.0
    assert (kernel * offsets.square()).sum().item() == pytest.approx(4, rel=0.01)
    windows = GaussianBlur().parameters(keys_of(0, torch.arange(500)))["window"]
    assert windows.unique().tolist() == list(range(7, 22, 2))


def test_disk_has_its_second_moment() -> None:
    part = DefocusBlur(radius=(6, 6))
    kernel = part.kernels(torch.tensor([6.0]))[0].sum(0)
    offsets = torch.arange(len(kernel)) - len(kernel) // 2.0
    assert (kernel * offsets.square()).sum().item() == pytest.approx(6**2 / 4, rel=0.03)


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_motion_kernels_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"kernels{suffix}"
    if suffix == ".npy":
        np.save(path, np.stack([np.eye(9), np.fliplr(np.eye(9))]))
    else:
        cells = np.empty((1, 2), dtype=object)
        cells[0, 0], cells[0, 1] = np.eye(9), np.ones((5, 5))
        savemat(path, {"kernels": cells})
    kernels = MotionBlur(kernels=str(path)).parameters(keys_of(0, torch.arange(40)))["kernel"]
    assert kernels.shape == (40, 9, 9)
    assert len(kernels.unique(dim=0)) == 2
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(40))
