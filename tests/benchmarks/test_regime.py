"""The table of training regimes: what it counts, and that the page shows what was measured."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import tiny

HERE = Path(__file__).parent


@pytest.fixture
def regime(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the module sets it, and other tests start processes
    from tests.benchmarks import regime

    return regime


def row(label: str, seed: int, **images: list[list[float]]) -> dict[str, Any]:
    return {"candidate": "base", "label": label, "seed": seed, "cpu": 100.0 + seed, "images": images}


def test_the_page_holds_the_table_of_all_measured_runs(regime: ModuleType) -> None:
    assert regime.table(regime.read(HERE / "regime.jsonl")) in (HERE / "REGIME.md").read_text()


def test_a_row_of_the_table_counts_gains_harm_and_pairs(regime: ModuleType) -> None:
    input_, better, worse = 20.0, [26.0, 20.0], [19.0, 20.0]
    names = list(regime.candidates()["base"]["tasks"])
    tasks = {name: [better, worse] for name in names}
    joint = [row("joint", seed, **tasks) for seed in (0, 1)]
    pairs = [row("pcgrad", 1, **{name: [[24.0, input_]] for name in names})]  # 24 dB instead of (26 + 19) / 2
    cells = [cell.strip() for cell in regime.line("base", [*joint, *pairs]).split("|")[1:-1]]
    assert cells[:5] == ["base", " / ".join("-" for _ in tasks), " / ".join("2.50" for _ in tasks), "-", "50%"]
    assert cells[5:] == ["-", "0.00", "+1.50", "-", "100", "2 / 1 / 0"]


def test_a_measured_run_has_the_scores_of_its_images(regime: ModuleType) -> None:
    raw = tiny.merged(tiny.RAW, {"training": {"steps": 1}, "name": "once"})
    found = regime.measured(raw, "joint", {}, seed=0)
    assert set(found["images"]) == set(tiny.RAW["tasks"]) and found["candidate"] == "once" and found["cpu"] >= 0
    assert all(len(scores) == 2 and min(scores) > 0 for images in found["images"].values() for scores in images)
