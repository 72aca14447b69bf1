"""The Gramian of row gradients, in float64 at any scale, and which engine a stage takes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cmtl_ir.gradients.gramian import BLOCK, CHUNK, LARGE, gramian
from cmtl_ir.gradients.rows import Engine, choose_engine
from cmtl_ir.strategy.data import Row, Stage
from cmtl_ir.training.loop import make_engine
from tests import tiny

# ------------------------------------------------------------------------------------------------------ Gramian


def random_rows(count: int, columns: int) -> Tensor:
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(1))


def exact(rows: Tensor) -> Tensor:
    return rows.double() @ rows.double().T


@pytest.mark.parametrize("columns", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_a_gramian_is_the_product_in_float64(columns: int) -> None:
    rows = random_rows(4, columns)
    assert_close(gramian(rows), exact(rows), rtol=1e-13, atol=1e-10)


@pytest.mark.parametrize("columns", [LARGE, LARGE + 1, LARGE + BLOCK + 5])
def test_a_gramian_of_many_columns_is_the_product_up_to_less_than_the_rounding_of_the_rows(columns: int) -> None:
    rows = random_rows(4, columns) * torch.tensor([[1e-5], [1.0], [1.0], [1e5]])
    norms = rows.double().norm(dim=1)
    assert_close(gramian(rows) / norms / norms[:, None], exact(rows) / norms / norms[:, None], rtol=0, atol=1e-8)


@pytest.mark.parametrize("factor", [1e-3, 1e-5])
def test_small_eigenvalues_are_those_of_the_product_in_float64(factor: float) -> None:
    rows = random_rows(3, LARGE)
    rows[2] = rows[0] + factor * rows[2]
    found, expected = (torch.linalg.eigvalsh(product)[0] for product in (gramian(rows), exact(rows)))
    assert_close(found, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("columns", [1000, LARGE])
@pytest.mark.parametrize("scale", [1e-20, 1e-10, 1.0, 1e10, 1e20])
def test_a_gramian_neither_overflows_nor_vanishes_in_float32(scale: float, columns: int) -> None:
    rows = random_rows(3, columns) * scale
    accuracy = 1e-12 if columns < LARGE else 1e-8 * columns
    expected = (rows.double() / scale) @ (rows.double() / scale).T
    assert_close(gramian(rows) / scale**2, expected, rtol=1e-12, atol=accuracy)


@pytest.mark.parametrize("exponent", [-400, 0, 400])
def test_rows_times_a_power_of_two_give_the_same_digits(exponent: int) -> None:
    rows = torch.randn(3, 50, dtype=torch.float64)
    digits = gramian(rows * 2.0**exponent) / 2.0**exponent / 2.0**exponent
    assert torch.equal(digits, gramian(rows))


def test_a_gramian_of_zeros_is_zero_and_of_infinities_is_not_finite() -> None:
    assert torch.equal(gramian(torch.zeros(2, 9)), torch.zeros(2, 2, dtype=torch.float64))
    assert not bool(torch.isfinite(gramian(torch.full((2, 9), math.inf, dtype=torch.float64))).any())


# --------------------------------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("samples", "patch", "expected"),
    [(1, 48, "grouped"), (2, 64, "grouped"), (2, 128, "grouped"), (4, 128, "stream"), (2, 192, "stream")],
)
def test_the_choice_depends_on_the_pixels_of_a_row_alone(samples: int, patch: int, expected: Engine) -> None:
    assert choose_engine(samples, patch) == expected


@pytest.mark.parametrize(("patch", "expected"), [(16, "grouped"), (384, "stream")])
def test_a_stage_takes_the_engine_of_the_rule_unless_a_field_names_one(patch: int, expected: Engine) -> None:
    rows = [Row(task, task, 1 / 3) for task in ("noise", "rain", "haze")]
    for field, taken in (("auto", expected), ("stream", "stream"), ("grouped", "grouped")):
        learner = tiny.learner({"surgery": "pcgrad"}, training={"engine": field})
        learner.patch = patch
        learner.start_stage(Stage("all", {row.name: row.share for row in rows}, 3))
        engine = make_engine(learner, rows, tiny.Silent())
        assert engine is not None and engine.engine == taken and len(engine.buffer) == len(rows)
