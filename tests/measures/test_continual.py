"""Continual-learning figures equal examples worked by hand, with one sign for every metric."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from cmtl_ir.measures.continual import (
    NEVER,
    StageScores,
    average,
    backward_transfer,
    delta_db,
    delta_m_gain_percent,
    forgetting_curve,
    forgetting_db,
    forward_transfer,
    gain,
    harm_rate,
    intransigence,
    mean_forgetting_db,
    summary,
    worst_task,
)
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.strategy.data import Stage

LPIPS = Scale("lpips", higher_is_better=False)
NAN = np.nan
TASKS = ("noise", "rain", "haze")
# Sequential training, worked by hand: noise is learnt at 28 dB, rises to 29 with rain and falls to 20 with haze.
R = np.array([[28.0, 19.0, 10.0], [29.0, 33.0, 11.0], [20.0, 30.0, 27.0]])
SEQUENTIAL = StageScores(R, TASKS, (0, 1, 2), PSNR)
IDENTITY = [19.5, 18.5, 9.0]
SINGLE = [30.0, 34.0, 26.0]


def flipped(results: StageScores) -> StageScores:
    """The same run, measured by a metric whose small values are good."""
    return StageScores(-results.scores, results.tasks, results.own_stage, LPIPS)


def test_accuracy_is_the_mean_of_the_last_row() -> None:
    assert average(SEQUENTIAL) == pytest.approx((20 + 30 + 27) / 3)


def test_backward_transfer_divides_by_the_tasks_that_could_be_forgotten() -> None:
    assert backward_transfer(SEQUENTIAL) == pytest.approx(((20 - 28) + (30 - 33)) / 2)


def test_forward_transfer_compares_with_the_untouched_image() -> None:
    assert forward_transfer(SEQUENTIAL, IDENTITY) == pytest.approx(((19 - 18.5) + (11 - 9.0)) / 2)


def test_forgetting_counts_from_the_best_not_from_the_own_stage() -> None:
    np.testing.assert_allclose(forgetting_db(SEQUENTIAL), [29 - 20, 33 - 30, NAN])


def test_forgetting_may_be_negative() -> None:
    """mammoth clamps it at 0, which hides that a task went on improving."""
    results = StageScores(np.array([[20.0, 15.0], [22.0, 30.0]]), ("noise", "rain"), (0, 1), PSNR)
    np.testing.assert_allclose(forgetting_db(results), [-2, NAN])
    assert backward_transfer(results) == pytest.approx(2)


def test_intransigence_is_what_was_not_learnt_at_the_own_stage() -> None:
    np.testing.assert_allclose(intransigence(SEQUENTIAL, SINGLE), [30 - 28, 34 - 33, 26 - 27])


def test_delta_db_and_delta_m() -> None:
    assert delta_db(SEQUENTIAL.final, SINGLE, PSNR) == pytest.approx((-10 - 4 + 1) / 3)
    assert delta_m_gain_percent(SEQUENTIAL.final, SINGLE, PSNR) == pytest.approx(100 * (-10 / 30 - 4 / 34 + 1 / 26) / 3)


def test_gain_over_identity_and_worst_task() -> None:
    np.testing.assert_allclose(gain(SEQUENTIAL.final, IDENTITY, PSNR), [0.5, 11.5, 18.0])
    assert worst_task(SEQUENTIAL) == ("noise", 20.0)


def test_harm_rate_is_the_share_of_images_made_worse() -> None:
    restored, untouched = [20.0, 25.0, 30.0, 18.0], [19.0, 26.0, 30.0, 19.0]
    assert harm_rate(restored, untouched, PSNR) == 0.5
    assert harm_rate(restored, untouched, LPIPS) == 0.25
    assert np.isnan(harm_rate([*restored, NAN], [*untouched, 1.0], PSNR))


def test_directions_flipped_give_the_same_judgement() -> None:
    mirror = flipped(SEQUENTIAL)
    lower = [-value for value in IDENTITY], [-value for value in SINGLE]
    assert backward_transfer(mirror) == backward_transfer(SEQUENTIAL)
    assert forward_transfer(mirror, lower[0]) == forward_transfer(SEQUENTIAL, IDENTITY)
    np.testing.assert_array_equal(forgetting_db(mirror), forgetting_db(SEQUENTIAL))
    np.testing.assert_array_equal(intransigence(mirror, lower[1]), intransigence(SEQUENTIAL, SINGLE))
    assert delta_db(mirror.final, lower[1], LPIPS) == delta_db(SEQUENTIAL.final, SINGLE, PSNR)
    assert delta_m_gain_percent(mirror.final, lower[1], LPIPS) == delta_m_gain_percent(SEQUENTIAL.final, SINGLE, PSNR)
    assert worst_task(mirror) == ("noise", -20.0)
    assert average(mirror) == -average(SEQUENTIAL)  # a level, not a judgement: it stays in the metric's unit


def test_lpips_that_rises_is_forgetting() -> None:
    results = StageScores(np.array([[0.10, 0.5], [0.25, 0.2]]), ("noise", "rain"), (0, 1), LPIPS)
    np.testing.assert_allclose(forgetting_db(results), [0.15, NAN])
    assert backward_transfer(results) == pytest.approx(-0.15)


def test_the_own_stage_is_the_one_that_first_trained_the_task() -> None:
    """Cumulative: stage 0 noise, stage 1 noise and rain, stage 2 all, stage 3 all again."""
    scores = np.array([[28.0, 19.0, 10.0], [27.0, 31.0, 9.0], [26.0, 32.0, 25.0], [27.5, 31.5, 26.0]])
    results = StageScores(scores, TASKS, (0, 1, 2), PSNR)
    np.testing.assert_allclose(forgetting_db(results), [28 - 27.5, 32 - 31.5, 25 - 26])
    assert backward_transfer(results) == pytest.approx((-0.5 + 0.5 + 1) / 3)
    np.testing.assert_allclose(results.own, [28, 31, 25])


def test_two_tasks_may_share_their_first_stage() -> None:
    scores = np.array([[28.0, 31.0, 10.0], [26.0, 30.0, 25.0]])
    results = StageScores(scores, TASKS, (0, 0, 1), PSNR)
    assert backward_transfer(results) == pytest.approx((-2 - 1) / 2)
    assert forward_transfer(results, IDENTITY) == pytest.approx(10 - 9.0)


def test_a_joint_run_has_no_transfer_and_no_forgetting_between_stages() -> None:
    joint = StageScores(R[-1:], TASKS, (0, 0, 0), PSNR)
    assert np.isnan(backward_transfer(joint)) and np.isnan(forward_transfer(joint, IDENTITY))
    assert np.isnan(forgetting_db(joint)).all()
    np.testing.assert_allclose(intransigence(joint, SINGLE), [10, 4, -1])


def test_a_task_that_was_never_trained_is_not_forgotten() -> None:
    results = StageScores(R, TASKS, (0, 1, NEVER), PSNR)
    np.testing.assert_allclose(forgetting_db(results), [9, 3, NAN])
    assert backward_transfer(results) == pytest.approx(-5.5)
    assert forward_transfer(results, IDENTITY) == pytest.approx(0.5)
    assert np.isnan(intransigence(results, SINGLE)[2])


def test_scores_that_were_not_measured_are_never_averaged_away() -> None:
    seen_only = np.where(np.tri(3, dtype=bool), R, NAN)
    results = StageScores(seen_only, TASKS, (0, 1, 2), PSNR)
    assert np.isnan(forward_transfer(results, IDENTITY))
    np.testing.assert_allclose(forgetting_db(results), [9, 3, NAN])
    holes = R.copy()
    holes[2, 0] = NAN
    results = StageScores(holes, TASKS, (0, 1, 2), PSNR)
    assert np.isnan(average(results)) and np.isnan(backward_transfer(results))
    assert worst_task(results)[0] == "noise"


def test_the_forgetting_curve_is_the_best_before_minus_now() -> None:
    scores = [[20.0, 10.0], [24.0, 11.0], [22.0, NAN], [25.0, 9.0], [NAN, 15.0]]
    expected = np.array([[NAN, NAN], [-4, -1], [2, NAN], [-1, 2], [NAN, -4]])
    np.testing.assert_allclose(forgetting_curve(scores, PSNR), expected)
    np.testing.assert_allclose(forgetting_curve(-np.array(scores), LPIPS), expected)


def test_what_was_not_learnt_yet_is_not_on_the_curve() -> None:
    scores = [[20.0, 10.0], [24.0, 11.0], [22.0, 8.0], [25.0, 9.0]]
    expected = np.array([[NAN, NAN], [-4, NAN], [2, NAN], [-1, 2]])
    np.testing.assert_allclose(forgetting_curve(scores, PSNR, first_trained=(0, 2)), expected)


def test_the_last_row_of_the_curve_over_stages_is_the_forgetting() -> None:
    np.testing.assert_array_equal(forgetting_curve(R, PSNR, (0, 1, 2))[-1], forgetting_db(SEQUENTIAL))


def test_nothing_is_computed_in_place() -> None:
    scores, single = R.copy(), np.array(SINGLE)
    results = StageScores(scores, TASKS, (0, 1, 2), LPIPS)
    scores[0, 0] = 99.0
    assert results.scores[0, 0] == 28.0
    forgetting_db(results), intransigence(results, single), forgetting_curve(scores, LPIPS)
    np.testing.assert_array_equal(single, SINGLE)
    assert scores[0, 0] == 99.0 and (scores[1:] == R[1:]).all()
    with pytest.raises(ValueError, match="read-only"):
        results.scores[0, 0] = 0.0


def test_the_summary_of_a_run_is_read_off_its_stage_ends() -> None:
    names = ("one", "two", "three")
    mixtures: list[dict[str, float]] = [{"noise": 1.0}, {"rain": 0.7, "review:noise": 0.3}, {"haze": 1.0, "rain": 0.0}]
    stages = [Stage(name, mixture, 10) for name, mixture in zip(names, mixtures, strict=True)]
    curve: list[dict[str, object]] = []
    for name, row in zip(names, R, strict=True):
        curve.append({"stage_end": None, "psnr": dict.fromkeys(TASKS, 99.0)})
        curve.append({"stage_end": name, "psnr": dict(zip(TASKS, row.tolist(), strict=True))})
    found = summary(curve, stages)
    assert found["own_stage"] == {"noise": 0, "rain": 1, "haze": 2}
    assert found["scores"]["rain"] == [19.0, 33.0, 30.0]
    assert found["forgetting_db"] == {"noise": 9.0, "rain": 3.0, "haze": None}
    assert found["mean_forgetting_db"] == mean_forgetting_db(SEQUENTIAL) == 6.0
    assert found["backward_transfer"] == -5.5
    json.dumps(found, allow_nan=False)


def test_the_summary_of_a_joint_run_has_no_forgetting() -> None:
    point = {"stage_end": "all", "psnr": dict(zip(TASKS, R[-1], strict=True))}
    found = summary([point], [Stage("all", dict.fromkeys(TASKS, 1 / 3), 10)])
    assert found["mean_forgetting_db"] is None and found["average"] == pytest.approx(77 / 3)


@pytest.mark.parametrize(("tasks", "own"), [(("noise",), (0,)), (TASKS, (0, 1, 3)), (TASKS, (0, 1, -2))])
def test_a_matrix_that_does_not_fit_is_an_error(tasks: tuple[str, ...], own: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="own stages"):
        StageScores(R, tasks, own, PSNR)


def test_a_reference_for_the_wrong_number_of_tasks_is_an_error() -> None:
    with pytest.raises(ValueError, match="one value for each"):
        intransigence(SEQUENTIAL, [30.0])


def test_the_module_stays_light() -> None:
    code = "import sys; from cmtl_ir.measures import continual, statistics\n"
    code += "assert not {'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
