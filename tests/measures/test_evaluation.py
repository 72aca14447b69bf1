"""Claims about scoring: what a network is shown, and what is compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from cmtl_ir.measures.evaluation import Evaluator, evaluate_pair
from cmtl_ir.measures.protocol import PROTOCOLS
from tests.tasks.files import folder_of
from tests.tasks.tasks import CPU, built

HEIGHT, WIDTH = 37, 53
"""Not multiples of 16, and cut unevenly by a centre crop."""


class Edges(nn.Module):
    """Halves the image and darkens what lies near its border, as a padding network does; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:  # [B, 3, H, W]
        self.seen.append(tuple(x.shape[2:]))
        return 0.5 * nn.functional.avg_pool2d(x, 3, 1, 1)


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    folder = str(folder_of(tmp_path, ["a.png", "b.png"], HEIGHT, WIDTH))
    tasks = built({"noise": {"degradation": "gaussian_noise", "sigma": [25]}}, clean=folder, test=folder, patch=16)
    return Evaluator(tasks, "promptir", 1024, CPU)


def test_a_network_is_shown_what_its_protocol_scores(evaluator: Evaluator) -> None:
    model, cut = Edges(), PROTOCOLS["promptir"].crop
    rows = evaluator.scores(model)
    assert model.seen == [(32, 48)] * 2
    for row, whole in zip(rows, evaluator.tasks["noise"].test_samples(), strict=True):
        expected = evaluate_pair(model(cut(whole.degraded)), cut(whole.clean), "promptir")
        late = evaluate_pair(model(whole.degraded), whole.clean, "promptir")
        assert row["psnr"] == expected["psnr"].item() != late["psnr"].item()
        assert row["ssim"] == expected["ssim"].item() != late["ssim"].item()
        assert row["psnr_input"] == evaluate_pair(whole.degraded, whole.clean, "promptir")["psnr"].item()


@pytest.mark.parametrize("protocol", [name for name, one in PROTOCOLS.items() if one.multiple == 1])
def test_other_protocols_show_whole_images(evaluator: Evaluator, protocol: str) -> None:
    model = Edges()
    Evaluator(evaluator.tasks, protocol, 1024, CPU).scores(model)
    assert model.seen == [(HEIGHT, WIDTH)] * 2


def test_scores_are_the_same_the_second_time_and_the_mode_is_left_as_it_was(evaluator: Evaluator) -> None:
    model = Edges().train()
    assert evaluator.scores(model) == evaluator.scores(model) and model.training
