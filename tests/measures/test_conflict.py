"""Measures of conflict: by hand, unbiased under noise and on shared images, kept apart by block, written and read."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from cmtl_ir.grouping.probe import read_conflict
from cmtl_ir.measures import conflict
from cmtl_ir.measures.conflict import ConflictLog, corrected_cosine, crossed_products
from cmtl_ir.measures.statistics import pooled_ratio

PAIR = np.array([[3.0, 0.0], [-3.0, 4.0]])  # norms 3 and 5, product -9
HALVES = [(0, 2), (0, 2), (1, 2), (1, 2)]  # two rows of four samples, each in two halves


# ------------------------------------------------------------------------------------------------ one Gramian


def test_two_rows_by_hand() -> None:
    """cos -9/15; 2 * 15 / 34; (1 - .36) |(6, -4)|^2 / |(0, 4)|^2 = .64 * 52 / 16; singular values of the rows."""
    gramian = PAIR @ PAIR.T
    assert conflict.cosines(gramian)[0, 1] == pytest.approx(-0.6)
    assert conflict.magnitude_similarity(gramian)[0, 1] == pytest.approx(30 / 34)
    assert conflict.curvature_bound(gramian)[0, 1] == pytest.approx(2.08)
    assert conflict.condition_number(gramian) == pytest.approx(np.linalg.cond(PAIR))
    assert conflict.conflict_rate(gramian) == 1.0


def test_what_is_zero_by_zero_is_left_out() -> None:
    """A zero row has no cosine; of opposite rows as long as each other the curvature bound is 0 / 0."""
    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    gramian = rows @ rows.T
    assert np.isnan(conflict.cosines(gramian)[0, 2]) and np.isnan(conflict.curvature_bound(gramian)[0, 1])
    assert conflict.conflict_rate(gramian) == 1.0  # one pair is left
    assert conflict.condition_number(gramian) == math.inf
    metrics = ConflictLog().add(0, ["a", "b", "c"], [(0, 1), (1, 1), (2, 1)], gramian)
    assert all(math.isfinite(value) for value in metrics.values()) and "conflict/a.c" not in metrics


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_measures_do_not_know_the_scale(scale: float) -> None:
    gramian = PAIR @ PAIR.T
    for measure in (conflict.cosines, conflict.magnitude_similarity, conflict.curvature_bound):
        np.testing.assert_allclose(measure(gramian * scale**2), measure(gramian), rtol=1e-12)
    assert conflict.condition_number(gramian * scale**2) == pytest.approx(conflict.condition_number(gramian))


def test_harm_is_the_share_of_rows_that_the_last_step_pushed_up() -> None:
    assert conflict.harm(np.array([0.1, -0.2, 0.0, 3.0])) == 0.5
    log = ConflictLog()
    metrics = log.add(4, ["a", "b"], HALVES, np.eye(4), displacement=[1.0, -3.0, 2.0, 2.0])
    assert metrics["conflict/harm"] == 0.5  # row a: the mean of 1 and -3
    assert [r.displacement for r in log.rows if r.row_a == r.row_b] == [-1.0, 2.0]


# ----------------------------------------------------------------------------------------- noise, and its cure


def step_of(signals: np.ndarray, noise: float, shared: float, random: np.random.Generator) -> np.ndarray:
    """[4, P] gradients of two halves of two rows; `shared`: noise of an image that both rows' like halves show."""
    own = noise * random.standard_normal((2, 2, signals.shape[1]))
    image = shared * random.standard_normal((2, signals.shape[1]))  # of each half
    return (signals[:, None] + own + image).reshape(4, -1)


def pooled(signals: np.ndarray, noise: float, shared: float, crossed: bool, steps: int = 400) -> tuple[float, float]:
    """(corrected cosine, mean raw cosine) over a simulated log."""
    random, log = np.random.default_rng(3), ConflictLog()
    for step in range(steps):
        rows = step_of(signals, noise, shared, random)
        log.add(step, ["a", "b"], HALVES, rows @ rows.T)
    raw = np.mean([r.cosine for r in log.rows if r.row_a != r.row_b])
    return pooled_ratio(*log.pair("a", "b", crossed)), float(raw)


def at_cosine(cosine: float, size: int = 40) -> np.ndarray:
    """[2, P] two unit vectors at that cosine."""
    signals = np.zeros((2, size))
    signals[0, 0], signals[1, :2] = 1.0, (cosine, math.sqrt(1 - cosine**2))
    return signals


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_the_pooled_cosine_is_unbiased_where_the_raw_one_shrinks(noise: float) -> None:
    """Noise of .2 to 1.9 times the signal's length."""
    value, raw = pooled(at_cosine(0.6), noise, 0.0, crossed=False)
    assert value == pytest.approx(0.6, abs=0.05)
    if noise == 0.3:
        assert raw < 0.3


def test_rows_on_the_same_images_look_alike_unless_their_halves_are_crossed() -> None:
    """True cosine 0, and image noise of twice the signal's length: first halves meet second halves, on other images."""
    signals = at_cosine(0.0)
    crossed, raw = pooled(signals, 0.0, 0.3, crossed=True)
    straight, _ = pooled(signals, 0.0, 0.3, crossed=False)
    assert abs(crossed) < 0.08 and straight > 0.9 and raw > 0.5


def test_crossed_products_by_hand() -> None:
    """a1 = 1, a2 = 2, b1 = 3, b2 = 5: (a1 b2 + a2 b1) / 2 = (5 + 6) / 2; a1 a2 = 2, b1 b2 = 15."""
    halves = np.array([[1.0], [2.0], [3.0], [5.0]])
    found = crossed_products(halves @ halves.T, 2, HALVES)
    assert found.tolist() == [[2.0, 5.5], [5.5, 15.0]]
    single = crossed_products(np.eye(3), 2, [(0, 1), (0, 1), (1, 1)])  # one sample has no halves
    assert np.isnan(single[0, 1]) and np.isnan(single[1, 1]) and single[0, 0] == 0.0


def test_a_row_without_signal_is_not_measurable() -> None:
    random = np.random.default_rng(0)
    noise, signal = random.standard_normal(60), 1.0 + 0.1 * random.standard_normal(60)
    assert not corrected_cosine(0.5 * signal, signal, signal).reason
    assert corrected_cosine(0.5 * signal, signal, noise).reason.startswith("not measurable")
    assert corrected_cosine(*(0.5 * signal[:4],) * 3).reason.startswith("too few")
    assert math.isnan(corrected_cosine(signal, signal, -signal).estimate)


# ---------------------------------------------------------------------------------------------------- the log


def logged(steps: int = 6) -> ConflictLog:
    """Two rows, and the same in a block where they point the same way."""
    log, random = ConflictLog(), np.random.default_rng(1)
    for step in range(steps):
        rows = step_of(at_cosine(-0.5), 0.05, 0.0, random)
        log.add(step, ["rain", "haze"], HALVES, rows @ rows.T, displacement=rows[:, 0])
        log.add(step, ["rain", "haze"], HALVES, np.ones((4, 4)), block="encoder")
    return log


def test_a_block_has_metrics_and_series_of_its_own() -> None:
    log = logged()
    assert log.corrected("haze", "rain").estimate == pytest.approx(-0.5, abs=0.1)
    assert log.corrected("haze", "rain", block="encoder").estimate == pytest.approx(1.0)
    metrics = log.add(9, ["rain", "haze"], HALVES, np.ones((4, 4)), block="encoder")
    assert metrics["conflict.encoder/rate"] == 0.0 and metrics["conflict.encoder/haze.rain"] == pytest.approx(1.0)
    assert metrics["conflict_corrected.encoder/haze.rain"] == pytest.approx(1.0)
    assert not any(name.startswith("conflict/") for name in metrics)


def test_a_log_goes_through_a_checkpoint_and_through_its_table(tmp_path: Path) -> None:
    log, loaded = logged(), ConflictLog()
    loaded.load_state(json.loads(json.dumps(log.state())))
    assert loaded.rows == log.rows == read_conflict(log.write(tmp_path / "conflict.csv")).rows
    assert loaded.corrected("rain", "haze").estimate == pytest.approx(log.corrected("haze", "rain").estimate, rel=1e-12)


def test_a_table_from_before_there_were_blocks_is_read(tmp_path: Path) -> None:
    lines = logged().write(tmp_path / "new.csv").read_text().splitlines()
    assert lines[0].endswith(",block")
    (tmp_path / "old.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines if "encoder" not in line))
    assert read_conflict(tmp_path / "old.csv").rows == [row for row in logged().rows if not row.block]
