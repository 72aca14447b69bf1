"""PSNR and SSIM equal the tools that the published tables were made with, under every protocol."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from cmtl_ir.measures.evaluation import evaluate_pair
from cmtl_ir.measures.metrics.psnr import CAP_DB, psnr
from cmtl_ir.measures.metrics.ssim import ssim
from cmtl_ir.measures.protocol import PROTOCOLS, Protocol, find_protocol
from cmtl_ir.measures.scale import PSNR, Scale

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
TRUNC = Protocol("trunc", quantise="trunc")
# By an independent implementation: metric, protocol, value at amplitude 6, value at amplitude 40
GOLDEN = [
    (psnr, "promptir", 37.354676, 20.998972),
    (psnr, "basicsr_rgb", 37.292564, 20.997473),
    (psnr, TRUNC, 37.292144, 20.992327),
    (psnr, "mio", 37.296385, 20.959402),
    (psnr, "basicsr_y", 42.113238, 25.797273),
    (psnr, "matlab_y", 41.918757, 25.798651),
    (ssim, "promptir", 0.978028, 0.578881),
    (ssim, "basicsr_rgb", 0.976140, 0.535884),
    (ssim, "mio", 0.974072, 0.514948),
    (ssim, "basicsr_y", 0.989294, 0.708761),
    (ssim, "matlab_y", 0.988799, 0.708760),
    (ssim, "nafnet", 0.985159, 0.628483),
]


def u(count: int, key: str) -> np.ndarray:
    """[count] numbers in [-1, 1] from a key alone: a rule that any implementation can repeat."""
    x = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(zlib.crc32(key.encode()))) & 0xFFFFFFFF
    for _ in range(2):
        x = ((x ^ (x >> np.uint64(16))) * np.uint64(0x45D9F3B)) & 0xFFFFFFFF
    return (x ^ (x >> np.uint64(16))) / 2.0**31 - 1.0


def golden_pair(amplitude: float) -> tuple[Tensor, Tensor]:
    """Restored and clean [1, 3, 64, 80], float64 in [0, 1]: what GOLDEN was measured on."""
    i, j, c = np.meshgrid(np.arange(64), np.arange(80), np.arange(3), indexing="ij")
    clean = (20 + 2 * i + 40 * ((i // 8 + j // 8) % 2) + j + 15 * c) % 256
    restored = np.clip(clean + amplitude * u(clean.size, "metric").reshape(clean.shape), 0, 255)
    return to_tensor(restored), to_tensor(clean)


def to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image / 255.0).permute(2, 0, 1)[None]


def to_levels(image: Tensor) -> np.ndarray:
    """[1, 3, H, W] in [0, 1] -> [H, W, 3] on 0 .. 255; float32 stays float32, as in the authors' own conversions."""
    return image[0].permute(1, 2, 0).numpy() * image.numpy().dtype.type(255)


def photograph(name: str, sigma: float) -> tuple[Tensor, Tensor]:
    """A noisy and a clean real photograph [1, 3, H, W], float32, deliberately not of multiples of 16."""
    clean = getattr(data, name)()[:155, :203]
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(0, sigma, clean.shape)
    return to_tensor(clean + noise).float(), to_tensor(clean).float()


@pytest.mark.parametrize(("metric", "protocol", "light", "heavy"), GOLDEN)
def test_golden_values_to_the_last_printed_digit(
    metric: Callable[[Tensor, Tensor, Protocol | str], Tensor], protocol: Protocol | str, light: float, heavy: float
) -> None:
    assert metric(*golden_pair(6), protocol).item() == pytest.approx(light, abs=5.1e-7)
    assert metric(*golden_pair(40), protocol).item() == pytest.approx(heavy, abs=5.1e-7)


def test_basicsr_own_output_to_float32_rounding() -> None:
    rgb, luma = (evaluate_pair(*golden_pair(40), name) for name in ("basicsr_rgb", "basicsr_y"))
    assert rgb["psnr"].item() == pytest.approx(20.9974729688501, abs=1e-12)
    assert rgb["ssim"].item() == pytest.approx(0.5358843849113936, abs=1e-12)
    assert luma["psnr"].item() == pytest.approx(25.797273297108827, abs=1e-6)  # BasicSR's Y passes through float32
    assert luma["ssim"].item() == pytest.approx(0.7087606609773182, abs=1e-6)


def test_the_golden_image_is_the_documented_one() -> None:
    clean = to_levels(golden_pair(6)[1])
    np.testing.assert_allclose(clean[0, 0], [20, 35, 50])
    np.testing.assert_allclose(clean[-1, -1], [225, 240, 255])
    assert clean.mean() == pytest.approx(152.8, abs=0.05)


def test_torchmetrics_default_is_another_number() -> None:
    """It reflects at the edge and averages the whole image: 0.024 below BasicSR's at amplitude 40.

    Written out, because importing torchmetrics imports torchvision, which fails on a CPU build of torch.
    """
    for amplitude, expected in ((6, 0.970696), (40, 0.512092)):
        restored, clean = (torch.nn.functional.pad(x, (5, 5, 5, 5), mode="reflect") for x in golden_pair(amplitude))
        theirs = ssim(restored, clean, "basicsr_rgb")  # the documented value is that of the rounded image
        assert theirs.item() == pytest.approx(expected, abs=5.1e-7)


def skimage_pair(protocol: Protocol, restored: Tensor, clean: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """[H, W] or [H, W, 3] on 0 .. 255, prepared with numpy alone."""
    x, y = (np.clip(to_levels(image), 0, 255) for image in (restored, clean))
    x = {"none": x, "round": np.round(x), "trunc": np.trunc(x)}[protocol.quantise]
    top, left = (side % protocol.multiple // 2 for side in x.shape[:2])
    high, wide = (side - side % protocol.multiple for side in x.shape[:2])
    border = protocol.border
    inside = (slice(top + border, top + high - border), slice(left + border, left + wide - border))
    x, y = x[inside], np.round(y)[inside]
    if protocol.colour != "rgb":
        x, y = (image @ np.array([65.481, 128.553, 24.966]) / 255 + 16 for image in (x, y))
    x, y = x.astype(np.float64), y.astype(np.float64)
    return (np.round(x), np.round(y)) if protocol.colour == "y_rounded" else (x, y)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), TRUNC], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("sigma", [2.0, 40.0])
def test_psnr_equals_skimage_on_real_photographs(name: str, protocol: Protocol, sigma: float) -> None:
    restored, clean = photograph(name, sigma)
    x, y = skimage_pair(protocol, restored, clean)
    expected = peak_signal_noise_ratio(y, x, data_range=255)
    assert psnr(restored, clean, protocol).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("protocol", [p for p in PROTOCOLS.values() if p.name != "nafnet"], ids=lambda p: p.name)
@pytest.mark.parametrize("sigma", [2.0, 40.0])
def test_ssim_equals_skimage_on_real_photographs(name: str, protocol: Protocol, sigma: float) -> None:
    restored, clean = photograph(name, sigma)
    x, y = skimage_pair(protocol, restored, clean)
    axis = -1 if x.ndim == 3 else None
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options = {} if protocol.ssim == "uniform7" else options
    expected = structural_similarity(y, x, data_range=255, channel_axis=axis, **options)
    assert ssim(restored, clean, protocol).item() == pytest.approx(expected, abs=1e-6)


def test_three_dimensional_ssim_equals_a_plain_conv3d() -> None:
    """NAFNet's `_ssim_3d`: an 11x11x11 Gaussian over height, width and channel, edges replicated."""
    restored, clean = (image.double()[..., :40, :48] for image in photograph("coffee", 40.0))
    x, y = (torch.round(image.clamp(0, 1) * 255) for image in (restored, clean))
    weights = torch.exp(-(torch.arange(-5.0, 6.0, dtype=torch.float64) ** 2) / 4.5)
    kernel = torch.einsum("a,b,c->abc", weights, weights, weights) / weights.sum() ** 3

    def smooth(z: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(z[:, None], (5,) * 6, mode="replicate")
        return torch.nn.functional.conv3d(padded, kernel[None, None])

    mx, my, c1, c2 = smooth(x), smooth(y), 2.55**2, 7.65**2
    vx, vy, cov = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
    expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert ssim(restored, clean, "nafnet").item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_every_image_is_scored_alone(protocol: str) -> None:
    pairs = [photograph(name, sigma) for name, sigma in zip(PHOTOGRAPHS, (2.0, 20.0, 60.0), strict=True)]
    together = evaluate_pair(torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs]), protocol)
    for i, pair in enumerate(pairs):
        alone = evaluate_pair(*pair, protocol)
        for name in together:
            assert together[name].shape == (3,)
            assert together[name][i].item() == pytest.approx(alone[name].item(), abs=1e-12)


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_identical_images_are_capped_not_infinite(protocol: str) -> None:
    clean = photograph("chelsea", 0.0)[1]
    scores = evaluate_pair(clean, clean.clone(), protocol)
    assert scores["psnr"].item() == CAP_DB
    assert scores["ssim"].item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("quantise", ["round", "trunc"])
def test_all_256_levels_survive_quantisation(dtype: torch.dtype, quantise: str) -> None:
    """However the image was scaled: by a division or by a product with 1/255, which is off by a rounding."""
    levels = torch.arange(256, dtype=dtype).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    divided, scaled = levels / 255, levels * torch.tensor(1 / 255, dtype=dtype)
    protocol = Protocol("own", quantise=quantise)  # type: ignore[arg-type]
    assert psnr(divided, divided, protocol).item() == CAP_DB
    assert psnr(divided, scaled, protocol).item() == CAP_DB


def test_values_outside_the_range_are_clamped() -> None:
    clean = torch.cat([torch.zeros(1, 3, 16, 8), torch.ones(1, 3, 16, 8)], dim=3)
    for protocol in PROTOCOLS:
        assert psnr(3 * clean - 1, clean, protocol).item() == CAP_DB


def test_a_broken_image_gives_nan_not_a_score() -> None:
    restored, clean = photograph("coffee", 2.0)
    restored[0, 0, 70, 70] = math.nan
    assert all(score.isnan().all() for score in evaluate_pair(restored, clean, "promptir").values())


def test_promptir_cuts_the_centre_to_multiples_of_sixteen() -> None:
    image = torch.arange(37 * 50).view(1, 1, 37, 50)
    cut = PROTOCOLS["promptir"].crop(image)
    assert cut.shape[-2:] == (32, 48)
    assert torch.equal(cut, image[..., 2:34, 1:49])  # AirNet's crop_img
    assert torch.equal(PROTOCOLS["promptir"].crop(cut), cut)


@pytest.mark.error("metric: images that are too small for the protocol")
@pytest.mark.parametrize(
    ("protocol", "side", "words"), [("promptir", 15, "promptir"), ("mio", 18, "11"), ("nafnet", 10, "11")]
)
def test_images_below_the_window_are_an_error_that_says_so(protocol: str, side: int, words: str) -> None:
    image = torch.rand(1, 3, side, 64)
    with pytest.raises(ValueError, match=rf"\[{side}, 64\] pixels are too small.*{words}"):
        ssim(image, image, protocol)


def test_psnr_of_an_image_that_the_crop_swallows_is_an_error() -> None:
    with pytest.raises(ValueError, match="too small"):
        psnr(torch.rand(1, 3, 15, 64), torch.rand(1, 3, 15, 64), "promptir")


def test_shapes_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\[1, 3, 16, 16\] and \[2, 3, 16, 16\]"):
        psnr(torch.rand(1, 3, 16, 16), torch.rand(2, 3, 16, 16), "basicsr_rgb")


@pytest.mark.error("metric: an unknown protocol")
def test_an_unknown_protocol_names_its_neighbour() -> None:
    with pytest.raises(ValueError, match="did you mean promptir"):
        find_protocol("prompt_ir")


def test_metrics_know_their_direction() -> None:
    assert psnr.scale is PSNR and PSNR.sign == 1.0
    assert Scale("lpips", higher_is_better=False).sign == -1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        PSNR.unit = "bel"  # type: ignore[misc]


def test_inputs_are_left_alone_and_no_graph_is_kept() -> None:
    restored, clean = photograph("astronaut", 20.0)
    before = restored.clone()
    scores = evaluate_pair(restored.requires_grad_(), clean, "basicsr_y")
    assert torch.equal(restored, before)
    assert not any(score.requires_grad for score in scores.values())
