"""Equalities within and between methods, each of which ties an implementation to its defining equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cmtl_ir.strategies.surgery.aligned_mtl import balance

from . import claims
from .families import DEFICIENT, EASY, FULL_RANK, NON_ZERO, STATIONARY, UNEVEN, equal_rows, normal, orthogonal
from .test_claims import METHODS, maker, matrices

TWO_ROWS = {name: rows for name, rows in (NON_ZERO | UNEVEN).items() if len(rows) == 2}


def both(rows: Tensor, *names: str, **fields: float) -> list[Tensor]:
    """Updates of several methods on the same rows."""
    return [claims.apply(maker(name, **fields)(), rows)[1] for name in names]


# ---------------------------------------------------------------------------------------- between methods


@matrices(TWO_ROWS)
def test_two_rows_pcgrad_is_upgrad(rows: Tensor) -> None:
    """In TorchJD's convention, PCGrad is UPGrad with the sum as its preference; here both are means."""
    pcgrad, upgrad = both(rows, "pcgrad", "upgrad")
    claims.assert_near(pcgrad, upgrad, float(rows.norm()))


@matrices(TWO_ROWS)
def test_two_rows_gradvac_without_memory_is_pcgrad(rows: Tensor) -> None:
    gradvac = claims.apply(maker("gradvac", beta=0.0)(), rows)[1]
    claims.assert_near(gradvac, both(rows, "pcgrad")[0], float(rows.norm()))


@pytest.mark.parametrize("name", ["pcgrad", "upgrad", "dualproj", "gradvac"])
@matrices(EASY)
def test_without_conflict_there_is_nothing_to_project(name: str, rows: Tensor) -> None:
    claims.assert_near(both(rows, name)[0], rows.mean(dim=0), float(rows.norm()))


@matrices(FULL_RANK)
def test_config_and_imtl_g_point_the_same_way_at_full_rank(rows: Tensor) -> None:
    config, imtl_g = maker("config")(), maker("imtl_g")()
    (_, d), (_, e) = claims.apply(config, rows), claims.apply(imtl_g, rows)
    if not imtl_g.state:
        assert_close(d / d.norm(), e / e.norm(), rtol=0, atol=1e-7)
        assert_close(
            d / d.norm() @ rows.T / rows.norm(dim=1),
            (d @ rows.T / rows.norm(dim=1) / d.norm()).mean().expand(len(rows)),
            rtol=0,
            atol=1e-7,
        )


@matrices(FULL_RANK)
def test_nash_mtl_is_fairgrad_at_alpha_1(rows: Tensor) -> None:
    nash, fair = both(rows, "nash_mtl", "fairgrad")
    assert torch.equal(nash, fair)


@pytest.mark.parametrize("name", [name for name, part in METHODS.items() if part.needs == "gramian"])
def test_positive_weights_change_only_the_length_of_the_methods_that_say_so(name: str) -> None:
    """At full rank. Why the engine warns: under these methods a weighting is no more than a learning rate."""
    turned = []
    for rows in FULL_RANK.values():
        factors = torch.linspace(1.0, 3.0, len(rows), dtype=torch.float64)[:, None]
        one, other = maker(name)(), maker(name)()
        d, e = claims.apply(one, rows)[1], claims.apply(other, rows * factors)[1]
        if not (one.state.get("guarded") or other.state.get("guarded")):
            turned.append(float((d / d.norm() - e / e.norm()).norm()))
    assert (max(turned) < 1e-6) == maker(name)().keeps_direction


# ------------------------------------------------------------------------------------- defining equations


@pytest.mark.parametrize("c", [0.1, 0.4, 0.9])
@matrices(FULL_RANK | DEFICIENT | STATIONARY | EASY)
def test_cagrad_moves_c_lengths_away_from_the_mean_gradient(rows: Tensor, c: float) -> None:
    surgery = maker("cagrad", c=c)()
    _, update = claims.apply(surgery, rows)
    mean = rows.mean(dim=0)
    if surgery.state:
        claims.assert_near(update, mean, float(mean.norm()))
    elif float(mean.norm()) > 1e-6 * float(rows.norm()):
        assert float((update * (1 + c) - mean).norm()) == pytest.approx(c * float(mean.norm()), rel=1e-5)


@matrices(FULL_RANK)
def test_cagrad_of_radius_0_is_the_mean(rows: Tensor) -> None:
    assert_close(both(rows, "cagrad", c=0.0)[0], rows.mean(dim=0))


@matrices(FULL_RANK | DEFICIENT | UNEVEN)
def test_nash_products_of_weight_and_gain_are_equal(rows: Tensor) -> None:
    surgery = maker("nash_mtl")()
    v, update = claims.apply(surgery, rows)
    live = rows.norm(dim=1) > 0
    if not surgery.state:
        gains = len(rows) ** 2 * v * (rows @ update) / (rows**2).sum()
        assert_close(gains[live], torch.ones(int(live.sum()), dtype=torch.float64), rtol=1e-6, atol=0)
        assert_close(v[~live], torch.full_like(v[~live], 1 / len(v)))


@pytest.mark.parametrize("alpha", [0.5, 2.0, 5.0])
@matrices(FULL_RANK)
def test_fairgrad_solves_its_equation(rows: Tensor, alpha: float) -> None:
    surgery = maker("fairgrad", alpha=alpha)()
    v, update = claims.apply(surgery, rows)
    if not surgery.state:
        w = len(rows) * v
        assert_close(rows @ update * len(rows) / (rows**2).sum(), w ** (-1 / alpha), rtol=1e-7, atol=0)


@pytest.mark.parametrize("mode", ["min", "median", "rmse"])
@matrices(FULL_RANK | DEFICIENT | STATIONARY)
def test_aligned_rows_have_condition_1(rows: Tensor, mode: str) -> None:
    gramian = (rows @ rows.T / (rows**2).sum()).numpy()
    b = balance(gramian, mode)
    aligned = b @ gramian @ b
    values = np.linalg.eigvalsh(gramian)
    values = values[values > 1e-12 * values[-1]]
    common = {"min": values[0], "median": values[(len(values) - 1) // 2], "rmse": values.mean()}[mode]
    projector = aligned / common
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-5)
    assert np.trace(projector) == pytest.approx(len(values), abs=1e-5)


def test_near_duplicates_shrink_aligned_mtl_and_exact_ones_do_not() -> None:
    """Its documented discontinuity, in shares of the mean: noise of 10, 1, .01 % and none."""
    row, other = normal(1, 400), normal(1, 400, 5)
    for noise, share in ((0.1, 0.05), (0.01, 0.005), (1e-4, 5e-5), (0.0, 1.0)):
        rows = torch.cat([row, row + noise * other * float(row.norm() / other.norm())])
        update = both(rows, "aligned_mtl")[0]
        assert float(update.norm() / rows.mean(dim=0).norm()) == pytest.approx(share, rel=0.1)


def test_imtl_g_published_form_ascends_every_task_where_the_guard_takes_the_mean() -> None:
    ascends, guarded = 0, 0
    for seed in range(2000):
        rows = normal(3, 4, seed) * torch.exp(1.0 * normal(3, 1, seed + 1))
        q = torch.linalg.pinv(rows @ rows.T) @ rows.norm(dim=1)
        ascends += int(bool((rows @ (q @ rows / q.sum()) < 0).all()))
        surgery = maker("imtl_g")()
        update = claims.apply(surgery, rows)[1]
        guarded += surgery.state.get("guarded", 0)
        if surgery.state:
            assert_close(update, rows.mean(dim=0))
    assert ascends / 2000 == pytest.approx(0.04, abs=0.02) and guarded >= ascends


def test_graddrop_is_the_mean_in_expectation() -> None:
    rows = normal(4, 50)
    surgery = maker("graddrop")()
    draws = torch.stack([claims.apply(surgery, rows, step=step)[1] for step in range(4000)])
    error = (draws.mean(dim=0) - rows.mean(dim=0)).abs()
    assert bool((error <= 4.5 * draws.std(dim=0) / 4000**0.5 + 1e-3).all())


def test_graddrop_leaking_everything_is_the_mean() -> None:
    rows = normal(4, 50)
    assert_close(both(rows, "graddrop", leak=1.0)[0], rows.mean(dim=0))


def test_opposite_rows_are_guarded() -> None:
    rows = torch.cat([equal_rows(1, 6), -equal_rows(1, 6)])
    for name in ("config", "imtl_g", "nash_mtl", "cagrad", "fairgrad"):
        surgery = maker(name)()
        claims.apply(surgery, rows)
        assert surgery.state == ({} if name == "cagrad" else {"guarded": 1}), name  # cagrad: g0 itself is zero


def test_pcgrad_on_the_rows_themselves() -> None:
    """Gramian form equals row form: Algorithm 1 as printed, with the same order."""
    rows = normal(6, 9)
    context = claims.at_step(names=claims.NAMES[:6])
    projected = rows.clone()
    for i, name in enumerate(context.rows):
        for j in context.keyed_order(context.rows, f"pcgrad {name}"):
            product = projected[i] @ rows[j]
            if j != i and product < 0:
                projected[i] -= product / (rows[j] @ rows[j]) * rows[j]
    assert_close(both(rows, "pcgrad")[0], projected.mean(dim=0))


def test_orthogonal_rows_under_methods_that_even_out() -> None:
    """Rows of lengths 1, 2, 3: nash_mtl and fairgrad weigh by 1 / length, mgda by 1 / length^2."""
    rows = orthogonal(3, 8)
    lengths = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for name, power in (("nash_mtl", 1), ("aligned_mtl", 1), ("config", 1), ("imtl_g", 1), ("mgda", 2)):
        v = claims.apply(maker(name)(), rows)[0]
        assert_close(v / v[0], lengths**-power)
