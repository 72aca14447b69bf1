"""The efficiency table: counts by hand and as published, memory by hand, times that are plausible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cmtl_ir import backbones
from cmtl_ir.inference.profile import LiveTensors, multiply_adds, profile
from tests.inference.files import CPU, command, table

SIDE = 32
FLOAT = 4


class Pair(nn.Module):
    """Two convolutions, the first with a stride, and attention over what they leave."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.grouped = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 5, padding=2, groups=4)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        tokens = self.grouped(self.down(x)).flatten(2).mT[:, None].contiguous()  # [B, 1, N, 8]
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_multiply_adds_of_a_network_counted_by_hand(device: str) -> None:
    with torch.device(device):
        model, image = Pair(), torch.empty(1, 3, SIDE, SIDE)
    pixels = (SIDE // 2) ** 2
    by_hand = pixels * 8 * 3 * 9 + pixels * 8 * (8 // 4) * 25 + 2 * pixels * pixels * 8
    assert multiply_adds(model, image) == by_hand


PUBLISHED: list[tuple[str, dict[str, Any], int, float]] = [
    # backbone, fields, parameters, billions of multiply-adds at 256x256 of the authors' classes
    ("adair", {}, 28_784_824, 161.75),
    # less than the authors' 843.18 and 1082.81, who invert the Gram matrix of a projection before they multiply
    ("dgunet", {}, 17_331_512, 843.09),
    ("dgunet_plus", {}, 69_572_915, 1082.71),
    # 0.125 more than the authors' 107.56 and 106.86, whose pixel filter is not counted as a convolution
    ("fsnet", {}, 13_275_689, 107.69),
    ("fsnet", {"window": None}, 13_275_689, 106.98),
    ("mirnet_v2", {}, 5_858_560, 139.63),
    ("mprnet", {}, 20_127_073, 759.41),
    ("idr", {}, 12_262_448, 90.77),
    ("msbdn", {}, 28_712_861, 19.57),
    ("nafnet", {}, 17_111_907, 15.96),
    ("nafnet", {"width": 64, "encoder": [2, 2, 4, 8], "middle": 12, "decoder": [2, 2, 2, 2]}, 115_982_915, 63.24),
    ("nafnet", {"width": 8, "encoder": [1, 1, 1], "decoder": [1, 1, 1]}, 75_355, 0.29),
    ("restormer", {}, 26_126_644, 154.88),
    ("promptir", {}, 35_592_263, 172.71),
    ("airnet", {}, 8_930_313, 414.46),
    ("swinir", {"width": 60, "depths": [6] * 4, "heads": [6] * 4}, 905_283, 68.21),
    ("srresnet", {}, 1_222_147, 79.95),
    ("transweather", {}, 38_052_078, 4.663),
    ("transweather", {"decoder": False}, 21_903_086, 4.380),
    ("anyir", {}, 5_736_376, 34.29),
    ("captnet", {}, 24_366_307, 26.05),
    ("dynet", {}, 16_726_031, 172.71),
    ("dynet", {"reuse": [2, 3, 3, 4]}, 16_726_031, 118.61),
    ("gridformer", {"blocks": [1, 2, 4]}, 30_202_439, 252.50),
    ("hair", {}, 28_559_846, 154.27),
    ("instructir", {}, 15_843_363, 16.17),
    # With gradients every expert runs; the authors, who run the chosen ones alone, count about 182.48, 93.96 and 44.64.
    ("measnet", {}, 31_680_752, 183.09),
    ("moce_ir", {}, 25_353_796, 111.34),
    ("moce_ir", {"width": 32}, 11_477_752, 51.41),
    ("unet", {"noise_level": 25.0}, 32_640_960, 138.78),
    ("dehazeformer", {}, 687_404, 6.64),
    ("grl", {}, 3_120_227, 359.40),
    ("ipt", {}, 115_312_731, 11902.9),  # 361 tiles of 32.97 each
    ("mambair", {}, 15_777_507, 986.98),
    ("mambair_unet", {}, 26_779_480, 145.96),
    ("retinexformer", {}, 1_605_701, 16.66),
    ("wgws", {}, 4_988_895, 46.40),
    ("wgws", {"base": 20}, 6_158_077, 57.28),
]

COUNTED_IN_PARTS = {"biden", "ir_sde", "promptgip", "prores", "utilityir", "uwadn", "weather_diffusion"}
"""Networks whose published figure is not that of one plain pass: tests/backbones/test_keys_tasks_and_diffusion.py."""


@pytest.mark.release
@pytest.mark.parametrize(("name", "fields", "parameters", "billions"), PUBLISHED)
def test_counts_are_those_of_the_authors_classes(
    name: str, fields: dict[str, Any], parameters: int, billions: float
) -> None:
    with torch.device("meta"):
        model, image = backbones.build(name, **fields).eval(), torch.empty(1, 3, 256, 256)
    assert sum(one.numel() for one in model.parameters()) == parameters
    assert multiply_adds(model, image) / 1e9 == pytest.approx(
        billions, abs=0.5 * 10 ** -len(str(billions).split(".")[1])
    )


def test_every_backbone_is_counted() -> None:
    assert {name for name, *_ in PUBLISHED} | COUNTED_IN_PARTS == set(backbones.BACKBONES)


# ------------------------------------------------------------------------------------------------------------- memory


def test_live_tensors_counted_by_hand() -> None:
    x = torch.ones(1000)
    with LiveTensors() as live:
        a = x * 2
        b = a + 1  # two are alive
        del a
        c = b.view(10, 100)  # a view has no storage of its own
        del b
        c.mul_(2)  # nor is what happens in place
        d, e = c + 1, c + 2  # three
        del c, d, e
    assert (live.peak, live.now) == (3 * x.nbytes, 0)


def test_given_tensors_do_not_count() -> None:
    x = torch.ones(1000)
    with LiveTensors() as live:
        y = x.add_(1).view(-1)
    assert y.sum() == 2000 and live.peak == 0


def test_peak_of_a_network_is_weights_and_widest_moment() -> None:
    """SRResNet 1x without blocks: at its widest two maps are alive next to the weights."""
    fields = {"name": "srresnet", "width": 16, "blocks": 1}
    row = profile(fields, SIDE, CPU)
    maps = 16 * SIDE * SIDE * FLOAT
    assert row.parameters * FLOAT + 2 * maps <= row.peak_bytes <= row.parameters * FLOAT + 5 * maps
    larger = profile(fields, 2 * SIDE, CPU)
    activations = [one.peak_bytes - row.parameters * FLOAT for one in (row, larger)]
    assert activations[1] == 4 * activations[0] and larger.multiply_adds == 4 * row.multiply_adds


def test_a_profile_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    profile({"name": "srresnet", "width": 4, "blocks": 1}, SIDE, CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_a_slower_network_takes_longer() -> None:
    slow, fast = (profile({"name": "srresnet", "width": width, "blocks": 2}, 64, CPU) for width in (96, 4))
    assert slow.milliseconds > fast.milliseconds > 0


# ------------------------------------------------------------------------------------------------------- the command

LOOKS_AT_VALUES = """
from torch import nn


class Mine(nn.Module):
    def __init__(self, *, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 1)

    def forward(self, x, task=None):
        return x + self.conv(x).mean(1, keepdim=True) if float(x.mean()) > 0 else x
"""


def test_the_command_prints_and_writes_a_row_per_backbone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(LOOKS_AT_VALUES)
    assert command("profile", "srresnet", f"{mine}:Mine", "--size", SIDE, "--csv", tmp_path / "table.csv") == 0
    rows = table(tmp_path / "table.csv")
    assert [row["parameters"] for row in rows] == ["1222147", "16"]
    assert rows[1]["multiply_adds"] == str(3 * 4 * SIDE * SIDE)
    shown = capsys.readouterr().out
    assert "1,222,147" in shown and "1.25 G" in shown and f"{SIDE}x{SIDE}" in shown


def test_parameters_that_no_pass_reads_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        LOOKS_AT_VALUES.replace(
            "self.conv = nn", "self.unused, self.spare, self.conv = ('spare.*',), nn.Conv2d(5, 8, 1), nn"
        )
    )
    assert command("profile", f"{mine}:Mine", "--size", SIDE) == 0
    assert "48 of its parameters are never read" in capsys.readouterr().out
    assert command("profile", "srresnet", "--set", "width=4", "--set", "blocks=1", "--size", 16) == 0
    assert "never read" not in capsys.readouterr().out


def test_fields_belong_to_one_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("profile", "srresnet", "--set", "width=4", "--set", "blocks=1", "--size", 16) == 0
    assert "0.00 G" in capsys.readouterr().out
    assert command("profile", "srresnet", "nafnet", "--set", "width=4") == 2
    assert "one backbone" in capsys.readouterr().err
    assert command("profile", "srresnte") == 2 and "did you mean srresnet" in capsys.readouterr().err
