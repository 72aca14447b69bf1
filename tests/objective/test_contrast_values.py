"""Feature spaces and contrasts against numbers of an independent implementation in float64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.strategies.objective._classes import smoothed_cross_entropy
from cmtl_ir.strategies.objective.degradation_contrast import info_nce
from cmtl_ir.strategies.shared.features import Space, distances, fixed_space
from cmtl_ir.strategies.shared.features.haar import _step
from cmtl_ir.strategies.shared.features.vgg import LAYERS, LEVELS
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.strategy.output import Output
from tests.measures.test_metrics import golden_pair
from tests.objective.test_values import made

NEAR, GT = golden_pair(6)
FAR = golden_pair(40)[0]
HAZY = 0.7 * GT + 0.27


def per_sample(name: str, restored: Tensor, clean: Tensor, degraded: Tensor, **fields: Any) -> Tensor:
    batch = Batch("noise", torch.arange(len(clean)), degraded, clean)
    return made(name, **fields).losses(Output.of(restored), batch, Constants("noise"))


# ------------------------------------------------------------------------------------------------------ feature spaces


@pytest.mark.parametrize(
    ("space", "one", "other", "expected"),
    [
        ("haar", NEAR, GT, (0.009006252, 0.010247873, 0.011008468, 0.001445986)),
        ("haar", NEAR, FAR, (0.060233258, 0.055795780, 0.054071624, 0.008677311)),
        ("haar", GT, FAR, (0.068031844, 0.060775579, 0.063075521, 0.010058085)),
        ("random", NEAR, GT, (0.004905627, 0.005231659, 0.005550613)),
        ("random", NEAR, FAR, (0.025081658, 0.029839941, 0.030735496)),
        ("random", GT, FAR, (0.029954718, 0.034725256, 0.035570706)),
    ],
)
def test_distances_of_the_golden_images(space: Any, one: Tensor, other: Tensor, expected: tuple[float, ...]) -> None:
    made_space = fixed_space(space)
    found = distances(made_space.maps(one, ""), made_space.maps(other, ""))[0]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=5.1e-10)
    assert sum(made_space.weights) == pytest.approx(1.0)


def test_a_haar_cell_by_hand() -> None:
    low, details = _step(torch.tensor([[1.0, 2.0], [3.0, 6.0]]).expand(1, 1, 2, 2))
    assert low.item() == 6 and details.flatten().tolist() == [-2, -3, 1]


def vgg_file(name: str, folder: Path) -> tuple[Path, torch.nn.Sequential]:
    """A file as torchvision's, with small random weights up to the last level, and the network that it describes."""
    modules: list[torch.nn.Module] = []
    inputs = 3
    for layer in LAYERS[name]:
        if len(modules) > max(LEVELS[name]):
            break
        if isinstance(layer, str):
            modules.append(torch.nn.MaxPool2d(2))
        else:
            modules += [torch.nn.Conv2d(inputs, layer, 3, padding=1), torch.nn.ReLU()]
            inputs = layer
    network = torch.nn.Sequential(*modules)
    file = folder / f"{name}.pth"
    torch.save({f"features.{key}": value for key, value in network.state_dict().items()}, file)
    return file, network


def test_vgg_reads_the_maps_of_the_modules_with_these_numbers(tmp_path: Path) -> None:
    """relu1_2, 2_2 and 3_3 of vgg16 are modules 3, 8 and 15; all 3 x 3 convolutions keep the size."""
    file, network = vgg_file("vgg16", tmp_path)
    image = NEAR[..., :32, :32].float()
    space = fixed_space("vgg16", str(file), normalise=True)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    scaled = (image - mean[:, None, None]) / deviation[:, None, None]
    for number, found in zip((3, 8, 15), space.maps(image, ""), strict=True):
        torch.testing.assert_close(found, network[: number + 1](scaled))
    assert fixed_space("vgg16", str(file), levels={3: 0.2, 8: 0.3}).weights == (0.2, 0.3)
    with pytest.raises(ConfigError, match=r"vgg16.pth is not vgg19: expected features.16.weight \[256, 256, 3, 3\]"):
        fixed_space("vgg19", str(file))


def test_a_features_file_that_is_missing_or_is_not_vgg_is_one_clear_error(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match=r"other.pth is not vgg19: expected features.0.weight \[64, 3, 3, 3\]"):
        made("cr", features="vgg19", file=str(tmp_path / "other.pth")).space  # noqa: B018
    with pytest.raises(UserError, match=r"nothing.pth: no such file"):
        made("cr", features="vgg19", file=str(tmp_path / "nothing.pth")).space  # noqa: B018


# -------------------------------------------------------------------------------------------------- contrasts of images


@pytest.mark.parametrize(
    ("restored", "fields", "haar", "random"),
    [
        (HAZY, {}, 0.368416095, 0.584917513),
        (NEAR, {}, 0.175855189, 0.181229439),
        (HAZY, {"floor": 0}, 0.368415649, 0.584916178),
        (NEAR, {"floor": 0}, 0.175854471, 0.181228824),
    ],
)
def test_cr_of_the_golden_images(restored: Tensor, fields: dict[str, Any], haar: float, random: float) -> None:
    for features, expected in (("haar", haar), ("random", random)):
        found = per_sample("cr", restored, GT, FAR, features=features, **fields)
        assert found.item() == pytest.approx(expected, abs=5.1e-10)


def test_the_floor_bounds_cr_where_the_output_is_the_input() -> None:
    """Without it the ratio is 5e5; with it 1 / floor. At the clean image both are exactly 0."""
    for features, published in (("haar", 504853), ("random", 345269)):
        assert per_sample("cr", FAR, GT, FAR, features=features).item() == pytest.approx(10, abs=1e-12)
        assert per_sample("cr", FAR, GT, FAR, features=features, floor=0).item() == pytest.approx(published, abs=0.6)
        assert per_sample("cr", GT, GT, FAR, features=features).item() == 0


IMAGES = {"f": 0.5, "y": 0.6, "x": 0.8, "easy": 0.65, "hard": 0.55}  # distances .10, .30, .15, .05 from f


def pixel(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def example(name: str, constants: Mapping[str, Tensor] | None = None, **fields: Any) -> tuple[float, float]:
    """The value and its derivative by f of images of one pixel, with the pixel itself as feature."""
    objective: Any = made(name, **fields)
    objective._fixed = Space((1.0,), lambda images, task: [images])
    restored = pixel(IMAGES["f"]).requires_grad_()
    batch = Batch("noise", torch.zeros(1, dtype=torch.int64), pixel(IMAGES["x"]), pixel(IMAGES["y"]))
    found = objective.losses(Output.of(restored), batch, Constants("noise", constants or {}))
    found.sum().backward()
    assert restored.grad is not None
    return found.item(), restored.grad.item()


NEGATIVES = torch.cat([pixel(IMAGES["easy"]), pixel(IMAGES["hard"])])[None]  # [1, 2, 1, 1, 1]


def test_one_example_through_all_forms() -> None:
    curricular: Any = made("curricular_cr")
    quality: Any = made("quality_contrast")
    psnrs = torch.tensor([[20.0, 35.0]])
    mild, steep = curricular.weights_of(30.0, psnrs), quality.weights_of(30.0, psnrs)
    assert mild.tolist() == [[0.5, 0.3125, 0.1875]] and steep.tolist() == [[2.0, 1.25, 0.75]]
    found = {
        "cr": example("cr", floor=0.1),
        "composite_cr": example("composite_cr", {"negatives": NEGATIVES}),
        "curricular_cr": example("curricular_cr", {"negatives": NEGATIVES, "weights": mild}),
        "quality_contrast": example("quality_contrast", {"negatives": NEGATIVES, "weights": steep}),
        "distil_contrast": example("distil_contrast"),
        "snapshot_contrast": example("snapshot_contrast", {"negatives": NEGATIVES}),
        "perceptual": example("perceptual"),
    }
    expected = {
        "cr": 0.333333, "composite_cr": 0.6, "curricular_cr": 0.484848, "quality_contrast": 0.121212,
        "distil_contrast": 0.513015, "snapshot_contrast": -0.10, "perceptual": 0.10,
    }  # fmt: skip
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=5e-7), name


def test_the_derivative_of_distil_contrast_by_its_positive_distance() -> None:
    """.802625 in d(f, y); f moves d(f, y) and d(f, x) by -1 each, so the derivative by f itself is 0."""
    towards = torch.tensor(0.10, dtype=torch.float64, requires_grad=True)
    value = F.softplus((towards - 0.30) / 0.5)
    value.backward()
    assert towards.grad is not None and towards.grad.item() == pytest.approx(0.802625, abs=5e-7)
    assert example("distil_contrast")[0] == pytest.approx(value.item(), abs=1e-12)
    assert example("distil_contrast")[1] == pytest.approx(0, abs=1e-12)


def test_the_published_ratio_and_its_derivative() -> None:
    """a .6, p .5, n .9: .333333222, and 4.444442593 by a, through the numerator and the denominator."""
    objective: Any = made("cr", floor=0)
    objective._fixed = Space((1.0,), lambda images, task: [images])
    restored = pixel(0.6).requires_grad_()
    batch = Batch("noise", torch.zeros(1, dtype=torch.int64), pixel(0.9), pixel(0.5))
    found = objective.losses(Output.of(restored), batch, Constants("noise"))
    found.sum().backward()
    assert found.item() == pytest.approx(0.333333222, abs=5e-10)
    assert restored.grad is not None and restored.grad.item() == pytest.approx(4.444442593, abs=5e-9)


def test_the_ratio_is_of_each_sample() -> None:
    """d(f, y) (.1, .3) and d(f, x) (.3, .1): the mean of the ratios is 1.666667, the ratio of the means 1."""
    objective: Any = made("cr", floor=0)
    objective._fixed = Space((1.0,), lambda images, task: [images])
    clean, degraded = torch.cat([pixel(0.6), pixel(0.8)]), torch.cat([pixel(0.8), pixel(0.6)])
    batch = Batch("noise", torch.arange(2), degraded, clean)
    found = objective.losses(Output.of(torch.cat([pixel(0.5), pixel(0.5)])), batch, Constants("noise"))
    assert found.mean().item() == pytest.approx(1.666667, abs=2e-6)


def test_the_weights_of_a_curriculum_of_six_negatives() -> None:
    curricular: Any = made("curricular_cr")
    found = curricular.weights_of(31.5, torch.tensor([[17.0, 19.0, 31.0, 32.0, 36.0, 40.0]]))[0].tolist()
    assert found == pytest.approx([0.5, *[0.104167] * 3, *[0.0625] * 3], abs=5e-7)


def test_perceptual_is_cr_without_its_denominator() -> None:
    assert torch.equal(per_sample("perceptual", NEAR, GT, FAR), per_sample("cr", NEAR, GT, FAR, form="numerator"))
    assert made("perceptual").weight == 3.0  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------- contrasts of latents


@pytest.mark.parametrize(
    ("temperature", "value", "gradient", "without"),
    [
        (0.07, 0.055854202, (-0.155296754, 0.155237959), 0.0000108801),
        (0.1, 0.127223455, (-0.240698758, 0.239516887), 0.000335422),
        (0.5, 0.641611902, (-0.362997222, 0.208922532), 0.206380017),
    ],
)
def test_info_nce_by_hand(temperature: float, value: float, gradient: tuple[float, float], without: float) -> None:
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    key = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    bank = torch.tensor([[0.0, 1.0], [-1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    found = info_nce(query, key, bank, temperature)
    found.sum().backward()
    assert found.item() == pytest.approx(value, abs=5.1e-10)
    assert query.grad is not None and query.grad[0].tolist() == pytest.approx(gradient, abs=5.1e-10)
    assert info_nce(query, key, bank[:2], temperature).item() == pytest.approx(without, abs=5.1e-10)


def test_info_nce_without_negatives_is_exactly_0() -> None:
    query = torch.tensor([[0.6, 0.8]], requires_grad=True)
    found = info_nce(query, torch.tensor([[0.8, 0.6]]), torch.zeros(0, 2), 0.07)
    found.sum().backward()
    assert found.item() == 0 and query.grad is not None and query.grad.tolist() == [[0, 0]]


def test_degradation_class_by_hand() -> None:
    logarithms = torch.tensor([[[0.6, 0.1, 0.1, 0.1, 0.1]]], dtype=torch.float64).log()
    found = smoothed_cross_entropy(logarithms, torch.tensor([0]), 0.1)
    assert found.item() == pytest.approx(0.690002, abs=5e-7)
