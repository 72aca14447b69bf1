"""Outputs of the authors' own classes (float64, weights by rule), to the last printed digit.

A deviation of 1 % in one deep tensor moves an output by more than 1e-4, another eps by more than 1e-9: these rows
prove architecture, key names, shapes and norms at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import Case, image, spread

EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}


Stepped = tuple[Any, tuple[Tensor, Tensor, Tensor]]  # a network after a training pass, what the pass returned


class Row(NamedTuple):
    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]  # mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1]


NAFNET_SMALL = {"width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1]}
RESTORMER_SMALL = {"width": 16, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}
SWINIR = {"width": 60, "depths": [6] * 4, "heads": [6] * 4, "image_size": 64}
SWINIR_X2 = {**SWINIR, "upsampler": "pixelshuffledirect", "scale": 2}

# fmt: off
QUICK = [
    Row("nafnet", {}, (3, 64, 64), (1.6027771150, 4.3273014522, -1.3604626212, -2.1419943186, 2.4044199072)),
    Row("nafnet", {}, (3, 61, 50), (1.6267925954, 4.2622478618, -1.3525278698, 2.9953946097, 3.7689766000)),
    Row("nafnet", NAFNET_SMALL, (3, 64, 64), (0.8038689148, 1.7821511483, 0.3412350174, 1.9205514337, 1.4067035569)),
    Row("nafnet", {"local_training_size": 32}, (3, 96, 80), (1.6736728938, 4.7999395349, -2.2148916277, -1.8747810075, 5.1946706722)),  # noqa: E501
    Row("restormer", RESTORMER_SMALL, (3, 64, 64), (0.1762849191, 1.6284363133, 1.1536013364, -0.3904102031, 1.5352869654)),  # noqa: E501
    Row("srresnet", {}, (3, 64, 64), (-18.4794518570, 9.4057411620, -1.2368310551, -24.2725812612, -1.0030503431)),
    Row("swinir", SWINIR, (3, 64, 64), (0.7787319261, 1.0365136319, 0.1163642362, 0.8719463535, 0.4371971922)),
    Row("swinir", SWINIR, (3, 61, 50), (0.8068289249, 1.0400177785, -0.1235090344, 1.4283429685, 1.5742342597)),
    Row("swinir", SWINIR_X2, (3, 64, 64), (0.1003531946, 1.0939066591, 0.8031787835, -0.4832794563, 1.3627834924)),
    Row("transweather", {}, (3, 176, 144), (-0.0275881728, 0.6742274843, 0.1861515714, 0.8264909321, -0.5809975192)),
    Row("transweather", {"decoder": False}, (3, 176, 144), (-0.1952785832, 0.7103779704, -0.5887761330, -0.1152760112, -0.4186527201)),  # noqa: E501
]
SLOW = [
    Row("transweather", {}, (3, 64, 64), (-0.0295010527, 0.6574292444, 0.2476533391, 0.8738859013, -0.5993957205)),
    Row("transweather", {}, (3, 96, 64), (-0.0254326000, 0.6638481710, 0.1844340184, 0.8376631770, -0.5975647880)),
    Row("restormer", {}, (3, 64, 64), (1.0278373559, 3.1995362698, -0.6591806289, 2.8408452703, 0.1046285271)),
    Row("restormer", {"norm": "BiasFree"}, (3, 64, 64), (0.4699503448, 2.9293804393, -0.0019832629, -1.8645683855, 1.4102355337)),  # noqa: E501
    Row("promptir", {}, (3, 64, 64), (0.9967052161, 2.8696782095, -0.0731617858, 1.8576340248, -0.2541564256)),
    Row("promptir", {}, (3, 64, 96), (0.9451367209, 2.8681210149, -0.2487510418, 8.0743213048, -0.0329766318)),
    Row("airnet", {}, (3, 64, 64), (-14.0933186796, 46.9884847198, -9.1198381752, -32.9173939814, 12.5658490069)),
    Row("airnet", {}, (3, 61, 50), (-13.8890865574, 46.8881998194, -7.7341601645, -29.6608004433, 11.8919290022)),
]
# fmt: on


def five_numbers(y: Tensor) -> Tensor:  # [1, 3, H, W] -> [5]
    return torch.stack([y.mean(), y.std(), y[0, 0, 0, 0], y[0, 1, 7, 5], y[0, 2, -1, -1]])


def assert_golden(y: Tensor, numbers: tuple[float, ...]) -> None:
    torch.testing.assert_close(five_numbers(y), torch.tensor(numbers, dtype=torch.float64), **EXACT)


def label(row: Row) -> str:
    return "-".join([row.name, *row.fields, "x".join(map(str, row.shape))])


def test_the_rule_makes_the_published_input() -> None:
    x = image(3, 64, 64)
    expected = torch.tensor([0.4996795460, 0.2869210204, 0.0960165462], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([x.mean(), x.std(), x[0, 1, 7, 5]]), expected, **EXACT)


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).shared()
    x = image(*row.shape)
    # TransWeather's row was measured below the rescaling to [-1, 1] that its forward begins with.
    y = model((x + 1) / 2 if row.name == "transweather" else x)
    assert_golden(y, row.numbers)


@torch.no_grad()
def test_drunet_with_a_noise_map_is_that_of_the_authors_class() -> None:
    model = Case("unet", {"noise_level": 15.0}).build().eval()
    numbers = (10.0803783013, 55.5112447414, 2.1196628374, 12.1331707653, 7.4264500848)
    assert_golden(model.restored(image(4, 64, 64)), numbers)


@pytest.fixture(scope="module")
def airnet_after_a_step() -> Stepped:
    """AirNet and what its training pass returned, on a queue of two batches' worth by the rule."""
    model = Case("airnet", {"contrast_batch": 2}).build()
    contrast = model.get_submodule("E.E")
    contrast.queue.copy_(F.normalize(spread(131072, "E.E.queue").reshape(256, 512), dim=0))
    with torch.no_grad():
        returned = model.train().contrastive(image(3, 64, 64, batch=2), image(3, 64, 64, batch=2, key="input_k"))
    return model.eval(), returned


@pytest.mark.slow
def test_airnet_training_pass_returns_the_authors_numbers(
    airnet_after_a_step: Stepped,
) -> None:
    _, (restored, logits, labels) = airnet_after_a_step
    found = [logits[0, 0], logits[1, 0], logits[0, 1], F.cross_entropy(logits, labels), restored.mean()]
    expected = [2.2036111706, 2.2810094805, 0.1103027217, 4.4593396343, -12.4441543007]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected, dtype=torch.float64), **EXACT)


@pytest.mark.slow
def test_airnet_training_pass_leaves_the_authors_state(
    airnet_after_a_step: Stepped,
) -> None:
    model, _ = airnet_after_a_step
    contrast = model.get_submodule("E.E")
    query, key = (contrast.get_submodule(f"{one}.E_pre.backbone.1") for one in ("encoder_q", "encoder_k"))
    found = [query.running_mean[0], query.running_var[0], key.running_mean[0], key.running_var[0], contrast.queue[0, 0]]
    expected = [0.0654595534, 0.9094874183, -0.0732575472, 0.9065195911, 0.0155119237]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected, dtype=torch.float64), **EXACT)
    assert contrast.queue_ptr.tolist() == [2]
    with torch.no_grad():
        y = model(image(3, 64, 64))
    after = torch.tensor([-14.0867102001, -9.1051289331], dtype=torch.float64)
    torch.testing.assert_close(torch.stack([y.mean(), y[0, 0, 0, 0]]), after, **EXACT)
