"""Outputs of the authors' own classes (float64, weights by rule) of MambaIR and others, to the last printed digit."""

from __future__ import annotations

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
    numbers: Numbers
    task: int = 0


DEHAZE_SMALL = {
    "widths": [8, 16, 24, 16, 8], "depths": [4, 2, 4, 2, 2], "heads": [2, 2, 2, 1, 1],
    "attention": [1 / 4, 1 / 2, 3 / 4, 0, 0]
}  # fmt: skip
GRL_SMALL = {"width": 16, "depths": [4, 2], "heads": 2, "window": 8, "stripe": [8, 16]}
GRL_LOCAL = {**GRL_SMALL, "width": 36, "local_connection": True}
GRL_GROUPS = {**GRL_SMALL, "stripe": [8, None], "stripe_groups": [None, 4]}
GRL_LIGHT = {**GRL_SMALL, "upsampler": "pixelshuffledirect", "scale": 2}
IPT_SMALL = {
    "features": 8, "image_size": 12, "heads": 4, "layers": 2, "tasks": 3, "scales": [1, 1, 2], "value_range": 1.0
}  # fmt: skip
UNET = {"width": 32, "blocks": [1, 1, 1, 1], "refinement_blocks": 1}
MAMBA = {"width": 60, "depths": [2, 1], "states": 4}

# fmt: off
QUICK = [
    Row("dehazeformer", {**DEHAZE_SMALL, "conv": "conv"}, (3, 50, 44), (17.6837123514, 137.3202238969, 43.8575794418, 45.1700010096, 18.3329901183)),  # noqa: E501
    Row("dehazeformer", DEHAZE_SMALL, (3, 50, 44), (21.3319022219, 1956.3066850281, 1946.4481881054, 822.1507633521, -154.5477739158)),  # noqa: E501
    Row("dehazeformer", {}, (3, 64, 64), (2032.4020466912, 10053.8504260589, 332.9724577747, 1515.8148569121, -18587.4425966760)),  # noqa: E501
    Row("dehazeformer", {}, (3, 61, 50), (1975.3393062615, 10087.3055332478, -669.7494817108, -2687.1939890911, -26809.9047352936)),  # noqa: E501
    Row("grl", GRL_SMALL, (3, 32, 32), (0.3967148194, 0.8555971514, -0.7067230752, 0.4605892057, 0.5667509611)),
    Row("grl", GRL_SMALL, (3, 45, 30), (0.4041881965, 0.8313697203, 0.1621686921, 0.2276413113, 0.4637014416)),
    Row("grl", GRL_SMALL, (3, 8, 30), (0.5606960209, 0.7389473974, -0.1409163025, 1.5728811707, 1.2035749182)),
    Row("grl", {**GRL_SMALL, "stripe_shift": False}, (3, 32, 32), (0.4037566449, 0.8549351198, -0.6809487207, 0.5443756006, 0.5389187819)),  # noqa: E501
    Row("grl", GRL_LOCAL, (3, 32, 32), (0.3488172307, 1.0901819875, -0.1693405545, 1.8157984785, 0.7463773384)),
    Row("grl", GRL_GROUPS, (3, 64, 64), (0.3707550512, 0.8458156889, -0.4347354501, -0.1251289613, 1.4960137104)),
    Row("grl", GRL_LIGHT, (3, 32, 32), (0.9512386784, 1.6851598611, 1.6029969342, -2.4581621341, -0.2536311158)),
    Row("ipt", IPT_SMALL, (3, 12, 12), (1.5147391682, 4.8088999478, 3.4486291849, -0.2403684621, 1.8419932883)),
    Row("ipt", IPT_SMALL, (3, 12, 12), (0.8503814371, 4.4074961967, 6.6500208951, 5.0667333604, -5.2431042512), 1),
    Row("ipt", IPT_SMALL, (3, 12, 12), (0.6900298531, 4.5707241000, 2.0999892986, -3.5137639428, -4.4781374538), 2),
    Row("ipt", IPT_SMALL, (3, 30, 27), (1.5434376285, 4.7488275740, 3.3442411762, -0.3538035570, 2.6300775909)),
    Row("ipt", IPT_SMALL, (3, 15, 15), (1.4055966615, 4.8098323453, 3.4971657633, -2.7106549583, 1.6521442032)),
    Row("ipt", IPT_SMALL, (3, 31, 26), (0.7318507923, 4.6254304741, 2.0455439968, -4.2688312807, -4.1083356146), 2),
    Row("mambair", MAMBA, (3, 24, 20), (0.8963158653, 0.9184128247, -0.5513660585, 1.0583288373, 0.6886173294)),
    Row("mambair", {**MAMBA, "connection": "3conv"}, (3, 24, 20), (0.6305747099, 0.5656702048, -0.1659866381, 0.0177794215, 0.8282419670)),  # noqa: E501
    Row("mambair", {**MAMBA, "upsampler": "pixelshuffledirect", "scale": 2}, (3, 24, 20), (0.5165134126, 0.8684822380, -0.3685009207, 0.3480487674, 0.3951711714)),  # noqa: E501
    Row("mambair", {**MAMBA, "upsampler": "pixelshuffle", "scale": 2}, (3, 24, 20), (0.8150500246, 0.6127707436, 1.1825104953, 0.6215476058, 0.5319787131)),  # noqa: E501
    Row("mambair_unet", UNET, (3, 32, 24), (0.3077949548, 0.4694262044, 0.7033948853, -0.6835699702, -0.0858899363)),
    Row("mambair_unet", {**UNET, "scan": "loop"}, (3, 32, 24), (0.3077949548, 0.4694262044, 0.7033948853, -0.6835699702, -0.0858899363)),  # noqa: E501
    Row("retinexformer", {"width": 16, "stages": 2, "blocks": [1, 1, 1]}, (3, 64, 48), (-1.0194052787, 4.3159924964, 0.5324042581, -0.9644415503, 0.0840733966)),  # noqa: E501
    Row("retinexformer", {}, (3, 64, 64), (1.2240985212, 1.1065649064, 1.1305042004, 0.2661942945, 1.5405902250)),
]
SLOW = [
    Row("grl", {"width": 64}, (3, 128, 128), (0.0882293900, 1.0827470585, -0.2111952658, -1.3162883095, 0.5581499251)),
    Row("ipt", {"value_range": 1.0}, (3, 48, 48), (-0.8818849524, 16.2342333906, 16.1213547130, 4.7770824928, -20.9789656645)),  # noqa: E501
    Row("mambair", {}, (3, 16, 16), (1.0979434224, 0.9559425753, 1.1194141415, 1.4664950761, 1.0661797730)),
    Row("mambair_unet", {}, (3, 32, 32), (0.4975405091, 0.4007244416, 0.2671899192, 0.6505624805, 0.2512360090)),
]
# fmt: on


def label(row: Row) -> str:
    return "-".join([row.name, *row.fields, "x".join(map(str, row.shape)), f"task{row.task}"])


def restored(row: Row) -> Tensor:
    model, x = Case(row.name, row.fields).shared(), image(*row.shape)
    if row.name == "dehazeformer":  # measured below the rescaling to [-1, 1] that its forward begins and ends with
        return 2 * model((x + 1) / 2) - 1
    return model(x, torch.tensor([row.task]))


@torch.no_grad()
@pytest.mark.parametrize("row", [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW)], ids=label)
def test_output_is_that_of_the_authors_class(row: Row) -> None:
    found, expected = five_numbers(restored(row)), torch.tensor(row.numbers, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-9 * max(1.0, row.numbers[1]))
