"""Outputs and sizes of the authors' classes for InstructIR, MoCE-IR, MEASNet, GridFormer, HAIR, AnyIR, CAPTNet
and DyNet (float64, weights by rule), to the last printed digit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from cmtl_ir.backbones.instructir import InstructionHead

from .cases import Case, fill, image, meta, spread
from .test_golden import assert_golden
from .test_keys import count


class Row(NamedTuple):
    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    numbers: tuple[float, float, float, float, float]  # mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1]
    given: dict[str, Tensor] = {}  # noqa: RUF012, never changed: further arguments of forward


ONE = [1, 1, 1, 1]
ANYIR = {"width": 16, "blocks": ONE, "refinement_blocks": 1}
CAPTNET = {"width": 16, "encoder": ONE}
DYNET = {"width": 16, "reuse": [1, 2, 1, 2], "refinement_blocks": 1}
GRIDFORMER = {"width": 16, "blocks": ONE[:3], "growth": 8, "dense_layers": 1}
HAIR = {"width": 16, "blocks": ONE, "refinement_blocks": 1}
INSTRUCTIR = {"width": 8, "encoder": [1, 1, 1], "middle": 1, "decoder": [1, 1, 1], "text": 16}
MOCE_IR = {"width": 16, "blocks": ONE, "decoder_blocks": ONE[:3], "refinement_blocks": 1, "with_complexity": True}
MEASNET = {"width": 16, "blocks": ONE, "refinement_blocks": 1}
TEXT = {"text": spread(16, "text")[None]}

# fmt: off
QUICK = [
    Row("anyir", ANYIR, (3, 64, 64), (2.7782493166, 3.4485425410, -0.3598047191, 6.8721200748, 2.7824543173)),
    Row("anyir", ANYIR, (3, 64, 96), (2.7938176500, 3.4537116543, -0.0280430066, 4.1364338832, 2.4455352274)),
    Row("captnet", CAPTNET, (3, 64, 64), (1.1806825720, 5.2202334215, 2.8799320057, -4.2982453372, -1.4263606017)),
    Row("dynet", DYNET, (3, 64, 64), (0.1963179203, 1.6947119116, 0.8048293469, -2.0744277930, 1.5302989774)),
    Row("dynet", DYNET, (3, 64, 96), (0.1764653064, 1.6808139856, -0.2652193169, -0.4733647177, 0.6524578815)),
    Row("gridformer", GRIDFORMER, (3, 64, 64), (0.5970147251, 0.5830423395, 0.0436941301, 1.1370367065, 0.8196079378)),
    Row("gridformer", GRIDFORMER, (3, 48, 80), (0.5980529265, 0.5810376585, 0.1266917208, 1.6166377206, 0.9992871987)),
    Row("hair", HAIR, (3, 64, 64), (-0.1754700898, 1.0067481044, 0.1097670043, -1.2157667148, 0.1273995374)),
    Row("hair", HAIR, (3, 64, 96), (-0.1931765311, 1.0201301210, 0.2301990392, -0.8471566033, 0.4720326988)),
    Row("instructir", INSTRUCTIR, (3, 64, 64), (0.7825222974, 2.1870342151, -0.1148972584, 0.7499278770, 0.4493959450), TEXT),  # noqa: E501
    Row("instructir", INSTRUCTIR, (3, 61, 50), (0.7750520437, 2.1753434903, -1.3864367052, 4.6399038155, -2.7300868668), TEXT),  # noqa: E501
    Row("measnet", MEASNET, (3, 64, 64), (-0.3262451286, 1.3054766395, -0.2254947745, 0.0241500399, 0.5975024788)),
    Row("measnet", MEASNET, (3, 64, 128), (-0.3358132116, 1.2936764734, -0.1072368648, -0.1561958462, -0.4898900573)),
    Row("moce_ir", MOCE_IR, (3, 64, 64), (1.3773698739, 1.5982749096, 1.7682287731, 0.9458441845, -0.0285586375)),
    Row("moce_ir", MOCE_IR, (3, 64, 96), (1.3761278310, 1.6289071040, 1.7069755030, 1.5851702741, -0.1926648344)),
]
SLOW: list[Row] = [
    Row("anyir", {}, (3, 64, 64), (0.4620761938, 6.5185526399, -0.7414755820, -8.1628035346, 2.7381409259)),
    Row("captnet", {}, (3, 64, 64), (1.1666210019, 11.7724202283, -2.0659990418, 21.6671366936, 2.6593815262)),
    Row("dynet", {}, (3, 64, 64), (0.9184638197, 5.6539231596, -1.9802792499, -8.5464474006, 0.8342905095)),
    Row("dynet", {"reuse": [2, 3, 3, 4]}, (3, 64, 64), (0.6691072098, 3.3127155882, -1.3455626980, 0.2957153683, 0.3812288813)),  # noqa: E501
    Row("gridformer", {}, (3, 64, 64), (0.5811617823, 0.5191869472, -0.2074592156, 0.1076042356, 0.8269553514)),
    Row("hair", {}, (3, 64, 64), (0.6550751605, 3.3980610734, -0.9266691267, 2.6658346527, 2.4685279343)),
    Row("measnet", {}, (3, 64, 64), (1.3061622640, 2.7551904098, 0.1267047277, 0.3126728615, 2.0772714088)),
    Row("moce_ir", {"width": 32}, (3, 64, 64), (-0.8855230982, 3.5111929321, 0.6945242152, 1.3077410536, 0.0175082499)),
]
SIZES: list[tuple[str, dict[str, Any], int, int | None]] = [
    ("anyir", {}, 5_736_376, 825),
    ("anyir", {"width": 32, "blocks": [4, 6, 6, 8]}, 8_513_436, None),
    ("anyir", ANYIR, 499_157, 187),
    ("captnet", {}, 24_366_307, 683),
    ("captnet", CAPTNET, 1_552_923, 197),
    ("dynet", {}, 16_726_031, 182),
    ("dynet", {"reuse": [2, 3, 3, 4]}, 16_726_031, 182),
    ("dynet", DYNET, 7_144_038, 149),
    ("gridformer", {}, 34_072_791, 1974),
    ("gridformer", {"blocks": [1, 2, 4]}, 30_202_439, 1494),
    ("gridformer", GRIDFORMER, 713_769, 308),
    ("hair", {}, 28_559_846, 665),
    ("hair", HAIR, 1_977_811, 223),
    ("instructir", {}, 15_843_363, 696),
    ("instructir", INSTRUCTIR, 99_995, 271),
    ("measnet", {}, 31_680_752, 982),
    ("measnet", MEASNET, 1_592_413, 630),
    ("moce_ir", {}, 25_353_796, 1262),
    ("moce_ir", {"width": 32}, 11_477_752, 1262),
    ("moce_ir", MOCE_IR, 927_008, 332),
]
# fmt: on


def label(row: Row) -> str:
    return "-".join([row.name, "small" if row.fields else "published", "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).shared()
    y = model(image(*row.shape), **row.given)
    assert_golden(y[-1] if isinstance(y, list) else y, row.numbers)


@torch.no_grad()
def test_captnet_before_cropping_is_that_of_the_authors() -> None:
    model, x = Case("captnet", CAPTNET).build().eval(), image(3, 61, 50)
    y = model.restored(x)
    assert_golden(y, (0.7276008831, 4.9114043213, 3.3182479023, 1.9963264547, -1.6180618887))
    assert torch.equal(model(x), y[:, :, :61, :50])


@torch.no_grad()
def test_gridformer_restores_smaller_images_as_the_authors() -> None:
    quarter, half, _ = Case("gridformer", GRIDFORMER).build().eval()(image(3, 64, 64))
    assert (quarter.shape[-2:], half.shape[-2:]) == ((16, 16), (32, 32))
    assert float(half.mean()) == pytest.approx(0.8174196754, abs=1e-9)
    assert float(quarter.mean()) == pytest.approx(0.7680111045, abs=1e-9)


@torch.no_grad()
@pytest.mark.slow
def test_instructir_follows_the_authors_language_head() -> None:
    head = fill(InstructionHead().double())
    instruction, logits = head(spread(384, "text")[None])
    found = torch.stack([instruction[0, 0], logits[0, 0]])
    torch.testing.assert_close(
        found, torch.tensor([0.0047966532, 0.1938337153], dtype=torch.float64), rtol=0, atol=1e-9
    )
    y = Case("instructir", {}).build().eval()(image(3, 64, 64), text=instruction)
    assert_golden(y, (1.8272036019, 4.3719637460, -0.5201024410, 5.4994139588, 4.8362150681))


@pytest.mark.parametrize(("name", "fields", "parameters", "entries"), SIZES)
def test_parameters_and_entries_are_as_many_as_the_authors(
    name: str, fields: dict[str, Any], parameters: int, entries: int | None
) -> None:
    model = meta(name, **fields)
    assert count(model) == parameters
    assert entries is None or len(model.state_dict()) == entries


@torch.no_grad()
@pytest.mark.slow
def test_moce_ir_routes_as_the_authors_balance_loss_says() -> None:
    model = Case("moce_ir", {**MOCE_IR, "router_noise": False}).build().train()
    x = torch.cat([image(3, 64, 64), image(3, 64, 64, key="b")])
    _, features = model.forward_features(x)

    def spread_of(values: Tensor) -> Tensor:  # [D, E] -> [D]
        return (values.std(1) / (values.mean(1) + 1e-8)).square()

    loss = 0.5 * (spread_of(features["importance"].sum(0)) + spread_of(features["load"].mean(0))).mean()
    assert float(loss) == pytest.approx(1.2982131316, abs=1e-9)


@torch.no_grad()
def test_measnet_in_training_is_that_of_the_authors() -> None:
    model = Case("measnet", {**MEASNET, "router_noise": False}).build().train()
    y, features = model.forward_features(torch.cat([image(3, 64, 64), image(3, 64, 64, key="b")]))

    def spread_of(values: Tensor) -> Tensor:  # [3, E] -> [3]
        return values.var(1) / (values.mean(1).square() + 1e-10)

    loss = (spread_of(features["importance"].sum(0)) + spread_of(features["load"].sum(0))).sum()
    assert float(loss) == pytest.approx(5.2235162513, abs=1e-9)
    assert float(y[0].mean()) == pytest.approx(-0.2685894412, abs=1e-9)
