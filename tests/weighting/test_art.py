"""Art: the published five-step trace, which two wrong readings of the release do not reproduce."""

from __future__ import annotations

import math

import pytest
import torch

from cmtl_ir.strategies.weighting.art import Art

from .cases import Drive

TRACE = [  # losses of haze, rain, snow -> softmax
    ({"haze": 0.05, "rain": 0.03, "snow": 0.02}, {"haze": 0.817546, "rain": 0.125606, "snow": 0.056848}),
    ({"haze": 0.06, "rain": 0.025, "snow": 0.03}, {"haze": 0.938691, "rain": 0.016722, "snow": 0.044587}),
    ({"haze": 0.04, "snow": 0.025}, {"haze": 0.743634, "snow": 0.256366}),
    ({"haze": 0.045, "rain": 0.035, "snow": 0.02}, {"haze": 0.665812, "rain": 0.289254, "snow": 0.044934}),
    ({"haze": 0.03, "rain": 0.02, "snow": 0.04}, {"haze": 0.095700, "rain": 0.039507, "snow": 0.864792}),
]
FINAL_MEAN = {"haze": 0.09729902, "rain": 0.09714222, "snow": 0.09642524}
FINAL_BEST = {"haze": 0.03, "rain": 0.02, "snow": 0.02}


def test_the_worked_trace() -> None:
    drive = Drive(Art(normalise="raw"))
    for step, (losses, expected) in enumerate(TRACE):
        weights = drive.step(step, list(losses), list(losses.values()))
        assert weights.tolist() == pytest.approx(list(expected.values()), abs=1e-6)
    state = drive.part.state
    assert {name: float(mean) for name, mean in state["mean"].items()} == pytest.approx(FINAL_MEAN, abs=1e-8)
    assert {name: float(best) for name, best in state["best"].items()} == pytest.approx(FINAL_BEST, abs=1e-15)


def test_mean_one_is_the_row_times_the_number_of_tasks_present() -> None:
    drive = Drive(Art())
    for step, (losses, expected) in enumerate(TRACE):
        weights = drive.step(step, list(losses), list(losses.values()))
        assert weights.tolist() == pytest.approx([len(losses) * w for w in expected.values()], abs=3e-6)


def as_written(update_first: bool = False, misspelt: bool = False) -> list[dict[str, float]]:
    """The formula in plain numbers, with either mistake."""
    mean, best = dict.fromkeys(FINAL_MEAN, 0.1), dict.fromkeys(FINAL_MEAN, 0.1)
    rows = []
    for losses, _ in TRACE:
        scores = {}
        for late in (False, True):
            if late == update_first:
                scores = {k: (l / mean[k]) * (math.log10(best[k]) / math.log10(l)) / 0.1 for k, l in losses.items()}
            else:
                for k, l in losses.items():
                    mean[k] = mean[k] if misspelt and k == "snow" else 0.01 * l + 0.99 * mean[k]
                    best[k] = min(best[k], l)
        total = sum(math.exp(s) for s in scores.values())
        rows.append({k: math.exp(s) / total for k, s in scores.items()})
    return rows


def test_the_state_before_the_batch_counts() -> None:
    right, wrong = as_written(), as_written(update_first=True)
    assert [row == pytest.approx(TRACE[i][1], abs=1e-6) for i, row in enumerate(right)] == [True] * 5
    assert wrong[0]["haze"] == pytest.approx(0.844495, abs=1e-6)
    assert abs(wrong[0]["haze"] - TRACE[0][1]["haze"]) > 0.02


def test_the_misspelt_release_differs_at_the_fifth_step() -> None:
    wrong = as_written(misspelt=True)[4]
    assert list(wrong.values()) == pytest.approx([0.108862, 0.044941, 0.846197], abs=1e-6)
    assert abs(wrong["snow"] - TRACE[4][1]["snow"]) > 0.015


def test_at_constant_losses_all_tasks_end_alike() -> None:
    drive = Drive(Art(normalise="raw"))
    for step in range(500):
        after_500 = drive.step(step, ("a", "b", "snow"), [0.02, 0.03, 0.04])
    assert float(after_500[2]) == pytest.approx(0.357, abs=5e-4)  # the misspelt release: .0015
    for step in range(500, 3000):
        weights = drive.step(step, ("a", "b", "snow"), [0.02, 0.03, 0.04])
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_nearly_a_hard_maximum_at_the_published_temperature() -> None:
    """K = 3, losses .04, m = E: a task 1.3 times above its E takes .97, in the middle of the dB-like scale."""
    drive = Drive(Art(normalise="raw"))
    level = torch.tensor(0.04, dtype=torch.float64)
    drive.part.load_state_dict({"mean": {"up": level / 1.3, "b": level, "c": level}, "best": {"up": level / 1.3}})
    drive.part.state["best"] |= {"b": level, "c": level}
    assert float(drive.step(0, ("up", "b", "c"), [0.04] * 3)[0]) == pytest.approx(0.97, abs=0.01)


@pytest.mark.parametrize("loss", [0.999, 1.0, 1.1])
def test_a_task_whose_loss_is_about_one_does_not_take_everything(loss: float) -> None:
    """Settled tasks (E = l, best a tenth below): log m / log l would be above 100 at l = .999 and negative above 1."""
    drive = Drive(Art(normalise="raw"))
    losses = {"loud": loss, "b": 0.05, "c": 0.04}
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in losses.items()}
    drive.part.load_state_dict({"mean": dict(tensors), "best": {name: 0.9 * value for name, value in tensors.items()}})
    weights = drive.step(0, list(losses), list(losses.values()))
    assert 0.2 < float(weights[0]) < 0.5
