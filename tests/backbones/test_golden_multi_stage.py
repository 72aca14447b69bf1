"""Outputs of the authors' own classes for AdaIR, DGUNet, FSNet, MIRNet-v2 and MPRNet (float64, weights by rule)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from .cases import Case, image
from .test_golden import five_numbers

Numbers = tuple[float, float, float, float, float]  # mean, std, y[0, 0, 0], y[1, 7, 5], y[2, -1, -1]


class Row(NamedTuple):
    name: str
    fields: dict[str, Any]
    shape: tuple[int, int, int]
    outputs: Mapping[int, Numbers]
    """The numbers of some of the network's outputs, by place."""
    calmed: str = ""
    """Part of the keys of the parameters that are halved after the rule, which is chaotic otherwise."""


ADAIR_SMALL = {"width": 8, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}
DGUNET_SMALL = {"width": 8, "growth": 4, "last_growth": 4, "depth": 2}
DGUNET_DERAIN = {"width": 40, "growth": 20, "last_growth": 16}
FSNET_SMALL = {"width": 16, "blocks": 4}
MIRNET_SMALL = {"width": 16, "blocks": 1}
MPRNET_SMALL = {"width": 16, "unet_growth": 8, "original_growth": 8, "attention_blocks": 2}
MPRNET_DERAIN = {"width": 40, "unet_growth": 20, "original_growth": 16}

# fmt: off
QUICK = [
    Row("adair", ADAIR_SMALL, (3, 64, 48), {
        0: (-0.2171660374, 1.1481324290, 1.4229674196, 0.1722268107, -0.2958379847),
    }),
    Row("dgunet", DGUNET_SMALL, (3, 48, 40), {
        0: (0.8626914500, 9.1809726813, 0.8660695328, -10.8483279388, -1.7464980206),
        1: (0.3245825863, 9.9505730182, -10.4023308207, -6.5500742285, 13.9192473772),
        3: (0.6247151687, 0.6417136985, -0.3993289977, -0.0137050283, 1.6121136021),
    }),
    Row("dgunet_plus", {"width": 8, "growth": 4}, (3, 48, 40), {
        0: (19.3900374160, 168.9959366284, 18.0449514121, 139.9355858658, -19.6876112162),
    }),
    Row("fsnet", FSNET_SMALL, (3, 64, 48), {
        0: (0.6869170461, 1.5530158917, 0.3632354540, 0.7760313946, -1.0763590251),
        1: (0.8646204493, 1.2833061725, 0.4553337614, 3.5462711730, 0.2924109264),
        2: (1.2512599988, 0.7278741277, 1.6551848574, 1.7644648026, -0.1553567359),
    }),
    Row("fsnet", {**FSNET_SMALL, "window": 210}, (3, 64, 48), {
        2: (1.2588260814, 0.7522743633, 1.6288103437, 1.8685421608, -0.0764705430),
    }),
    Row("fsnet", {**FSNET_SMALL, "window": None}, (3, 64, 48), {
        2: (1.2570896022, 0.7577635030, 1.6184834704, 1.8574599478, -0.0518483944),
    }),
    Row("mirnet_v2", MIRNET_SMALL, (3, 40, 36), {
        0: (1.7480741191, 4.0274867421, 1.1330533032, -3.5659626142, 0.5819379784),
    }),
    Row("mirnet_v2", {**MIRNET_SMALL, "dual_pixel": True}, (6, 40, 36), {
        0: (-1.2482053686, 3.6428599066, -1.0974011772, -6.2181764099, -0.6028072587),
    }),
    Row("mprnet", MPRNET_SMALL, (3, 64, 48), {
        0: (2.7097684818, 160.6062592525, -32.4056534050, 106.7136387255, -14.8235504612),
        1: (-9.4455131995, 22.7567934788, 4.5076966380, -21.3601805933, -4.7180364776),
        2: (0.7728551699, 2.6493791367, -1.2952641479, 1.1073434801, 1.1231822358),
    }),
]
SLOW = [
    Row("adair", ADAIR_SMALL, (3, 512, 640), {
        0: (-0.2486333884, 1.1477894206, 0.4273432870, -0.9202073736, 0.7584457856),
    }),
    Row("adair", {}, (3, 64, 64), {0: (1.1182454371, 2.3345914127, 0.3699300178, 1.4784281098, -0.0308605881)}),
    Row("dgunet", DGUNET_DERAIN, (3, 64, 64), {
        0: (0.5128207444, 658.8860785726, 37.4369641225, -84.2959020820, 105.9048911699),
    }),
    Row("dgunet", {}, (3, 64, 64), {
        0: (-340.9692592635, 850.1873351980, 207.8381259220, -906.1402869996, 62.4507171042),
    }),
    Row("fsnet", {}, (3, 64, 64), {2: (4.3252304256, 13.3995033781, 4.1273989167, 15.9430296643, -0.1365314953)}),
    Row("mirnet_v2", {}, (3, 64, 64), {
        0: (-2.4858574498, 15.5306776419, -4.3867472729, 13.0469553819, -7.4112589970),
    }),
    Row("mprnet", MPRNET_DERAIN, (3, 64, 64), {
        0: (27.6222708040, 65.8632558869, 5.0479407222, 4.1454142001, 21.9865173319),
        2: (1.2213952886, 1.8424687739, -0.3614028538, 4.0381156378, 0.3851978664),
    }, ".orb"),
    Row("mprnet", {}, (3, 64, 64), {
        0: (59.1206682467, 97.3342552108, 24.3552804905, -32.5259465977, 36.5407173196),
        1: (17.7115388348, 22.1276471936, -10.8732873942, -39.8798957281, 7.6521067124),
    }, ".orb"),
]
# fmt: on


def assert_golden(y: Tensor, numbers: Numbers) -> None:
    """Equal to the last printed digit, on the scale of the image's deviation."""
    tolerance = 1e-9 * max(1.0, numbers[1])
    expected = torch.tensor(numbers, dtype=torch.float64)
    torch.testing.assert_close(five_numbers(y), expected, rtol=0.0, atol=tolerance)


def label(row: Row) -> str:
    return "-".join([row.name, *map(str, row.fields.values()), "x".join(map(str, row.shape))])


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_outputs_are_those_of_the_authors_class(row: Row) -> None:
    model = Case(row.name, row.fields).build().eval()
    for key, parameter in model.named_parameters():
        if row.calmed and row.calmed in key:
            parameter.mul_(0.5)
    y = model(image(*row.shape))
    outputs = y if isinstance(y, list) else [y]
    for place, numbers in row.outputs.items():
        assert_golden(outputs[place], numbers)


@torch.no_grad()
@pytest.mark.slow
def test_a_frequency_block_of_adair_cuts_where_the_authors_does() -> None:
    block = Case("adair", ADAIR_SMALL).build().eval().get_submodule("fre3")
    y = block(image(3, 96, 160), image(16, 384, 640, key="y"))
    assert_golden(y, (-0.0319529235, 0.1723921137, 0.1972397799, -0.1226847792, -0.0059087236))
