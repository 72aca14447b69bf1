"""Every objective compared with NumPy, scikit-image, TorchMetrics or values computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.strategies.objective._similarity import similarity
from cmtl_ir.strategies.objective.ms_ssim import multiscale
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.making import part_from
from cmtl_ir.strategy.objective import Constants, Objective
from cmtl_ir.strategy.output import Output
from tests.torchvision_schemas import ensure_torchvision


def made(name: str, **fields: Any) -> Objective:
    problems: list[Any] = []
    part = part_from("objective", {"name": name, **fields}, "", problems)
    assert not problems and isinstance(part, Objective)
    return part


def losses(objective: Objective, restored: Tensor, clean: Tensor) -> Tensor:
    batch = Batch("noise", torch.arange(len(clean)), clean, clean)
    return objective.losses(Output.of(restored), batch, Constants("noise"))


@pytest.fixture(scope="module")
def photographs() -> tuple[Tensor, Tensor]:
    """Two crops of 192 pixels, noisy and clean, [2, 3, 192, 192]."""
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255.0
    clean = torch.cat([image[..., :192, :192], image[..., 200:392, 150:342]])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    return clean + 0.08 * noise, clean


def test_values_by_hand() -> None:
    """e = [[1, 2], [3, 6]] in one channel: sums 12, -4, -6, 2 in the spectrum; differences 1, 3 and 2, 4."""
    error = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).expand(1, 3, 2, 2)
    nothing = torch.zeros_like(error)
    assert losses(made("l1"), error, nothing).item() == 3.0
    assert losses(made("gradient"), error, nothing).item() == pytest.approx((1 + 3) / 2 + (2 + 4) / 2)
    assert losses(made("frequency"), error, nothing).item() == pytest.approx((12 + 4 + 6 + 2) / 8)
    assert losses(made("frequency", norm="ortho"), error, nothing).item() == pytest.approx((12 + 4 + 6 + 2) / 16)
    expected = np.mean(np.sqrt(np.array([1, 4, 9, 36]) + 1e-6))
    assert losses(made("charbonnier"), error, nothing).item() == pytest.approx(expected, rel=1e-6)


def test_frequency_is_numpy_s_transform(photographs: tuple[Tensor, Tensor]) -> None:
    restored, clean = photographs
    spectra = np.fft.fft2(restored.double().numpy()) - np.fft.fft2(clean.double().numpy())
    expected = (np.abs(spectra.real) + np.abs(spectra.imag)).mean((1, 2, 3)) / 2
    np.testing.assert_allclose(losses(made("frequency"), restored, clean), expected, rtol=1e-4)


def test_gradient_is_numpy_s_differences(photographs: tuple[Tensor, Tensor]) -> None:
    error = (photographs[0] - photographs[1]).double().numpy()
    expected = sum(np.abs(np.diff(error, axis=axis)).mean((1, 2, 3)) for axis in (2, 3))
    np.testing.assert_allclose(losses(made("gradient"), *photographs), expected, rtol=1e-5)


def test_psnr_is_scikit_image_s_with_another_sign(photographs: tuple[Tensor, Tensor]) -> None:
    restored, clean = (image.numpy() for image in photographs)
    expected = [-peak_signal_noise_ratio(y, x, data_range=1.0) for x, y in zip(restored, clean, strict=True)]
    np.testing.assert_allclose(losses(made("psnr"), *photographs), expected, atol=1e-4)


def test_ssim_is_scikit_image_s(photographs: tuple[Tensor, Tensor]) -> None:
    options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        1 - structural_similarity(x, y, data_range=1.0, channel_axis=0, **options)
        for x, y in zip(*(image.double().numpy() for image in photographs), strict=True)
    ]
    exact, _ = similarity(*(image.double() for image in photographs))
    np.testing.assert_allclose(1 - exact.mean(1), expected, rtol=1e-10)
    np.testing.assert_allclose(losses(made("ssim"), *photographs), expected, atol=2e-5)  # in float32


def test_ms_ssim_is_put_together_from_torchmetrics_contrast_and_scikit_image_s_coarsest_scale(
    photographs: tuple[Tensor, Tensor],
) -> None:
    """TorchMetrics' own MS-SSIM lets the coarsest scale reach into reflected borders, its other scales not."""
    ensure_torchvision()
    from torchmetrics.functional.image import structural_similarity_index_measure as theirs

    x, y = (image[:, :1].double() for image in photographs)
    expected = np.ones(2)
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale < 4:
            options: dict[str, Any] = {"data_range": 1.0, "reduction": "none", "return_contrast_sensitivity": True}
            term = theirs(x, y, **options)[1].numpy()
        else:
            options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
            pairs = zip(x[:, 0].numpy(), y[:, 0].numpy(), strict=True)
            term = np.array([structural_similarity(a, b, **options) for a, b in pairs])
        expected *= term**exponent
        x, y = (F.avg_pool2d(image, 2) for image in (x, y))
    grey = [image[:, :1].expand(-1, 3, -1, -1) for image in photographs]
    np.testing.assert_allclose(multiscale(*(image.double() for image in grey), 5), expected, rtol=1e-6)
    np.testing.assert_allclose(1 - losses(made("ms_ssim"), *grey), expected, atol=1e-4)  # in float32
    one = losses(made("ms_ssim", scales=1), *photographs)
    torch.testing.assert_close(one, losses(made("ssim"), *photographs), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim"])
def test_similarity_is_perfect_for_the_truth_and_its_gradient_is_finite_for_its_negative(
    name: str, photographs: tuple[Tensor, Tensor]
) -> None:
    _, clean = photographs
    assert losses(made(name), clean, clean).abs().max() < 1e-6
    opposite = (1.0 - clean).requires_grad_()
    (slope,) = torch.autograd.grad(losses(made(name), opposite, clean).sum(), opposite)
    assert bool(slope.isfinite().all())


@pytest.mark.error("objective: crops that are too small")
def test_images_that_are_too_small_are_refused_with_the_way_out() -> None:
    small = torch.rand(1, 3, 48, 48)
    with pytest.raises(UserError, match=r"5 scales need images of 176 .* set scales to 3"):
        losses(made("ms_ssim"), small, small)
    with pytest.raises(UserError, match="11 pixels"):
        losses(made("ssim"), small[..., :8], small[..., :8])
