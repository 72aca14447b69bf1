"""Intended differences from TorchJD 0.18, each with its reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from .families import equal_rows, normal, stationary, zeros
from .test_oracle import jd, ours, quadprog

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*not DPP.*"),
    pytest.mark.filterwarnings("ignore:.*may be inaccurate.*"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
PAIR = torch.tensor([[1.0, 0.0], [-2.0, 1.0]], dtype=torch.float64)  # conflicting; both upgrad and pcgrad move it


def worst_cosine(rows: Tensor, update: Tensor) -> float:
    """The least cosine of the update with a row."""
    return float((rows @ update / rows.norm(dim=1)).min() / update.norm())


def test_a_relative_ridge_breaks_the_promise_that_no_row_rises() -> None:
    """TorchJD adds 1e-4 trace G to the diagonal: with row norms over four decades, cosines down to -.83 (300 draws)."""
    spread = 10.0 ** torch.linspace(-2, 2, 4, dtype=torch.float64)[:, None]
    draws = [normal(4, 8, seed) * spread for seed in range(100)]
    draws = [rows / rows.norm() for rows in draws]
    assert min(worst_cosine(rows, jd.UPGrad()(rows)) for rows in draws) < -0.7
    assert min(worst_cosine(rows, jd.DualProj()(rows)) for rows in draws) < -0.7
    for name in ("upgrad", "dualproj"):
        assert min(worst_cosine(rows, ours(name, rows)[0]) for rows in draws) > -1e-12


@pytest.mark.parametrize(("name", "guest"), [("upgrad", "UPGrad"), ("dualproj", "DualProj")])
def test_absolute_cut_offs_switch_projections_off(name: str, guest: str) -> None:
    """At ||J|| = 2e-3 TorchJD returns the plain mean."""
    assert_close(getattr(jd, guest)()(PAIR * 1e-3), PAIR.mean(dim=0) * 1e-3)
    update = ours(name, PAIR * 1e-3)[0]
    assert_close(update, ours(name, PAIR)[0] * 1e-3)
    assert float((PAIR @ update).min()) > -1e-15


def test_cagrad_stops_training_at_small_gradients_there() -> None:
    assert_close(jd.CAGrad(c=0.4)(PAIR * 1e-3), torch.zeros(2, dtype=torch.float64))
    assert_close(ours("cagrad", PAIR * 1e-3)[0], ours("cagrad", PAIR)[0] * 1e-3)


def test_cagrad_stands_still_at_pareto_stationary_points_there() -> None:
    """With a radius beyond 1 the worst mixture is 0 itself: TorchJD returns 0, the authors and we the mean."""
    rows = stationary(3, 6)
    assert_close(jd.CAGrad(c=1.2)(rows), torch.zeros(6, dtype=torch.float64))
    update, guarded = ours("cagrad", rows, c=1.2)
    assert guarded
    assert_close(update, rows.mean(dim=0))


def test_gradvac_switches_off_at_small_gradients_there() -> None:
    """Its eps 1e-8 is added to products of norms: at 1e-8 the plain mean."""
    assert_close(jd.GradVac()(PAIR * 1e-8) / 2e-8, PAIR.mean(dim=0), rtol=0, atol=1e-6)
    assert_close(ours("gradvac", PAIR * 1e-8)[0] * 1e8, ours("gradvac", PAIR)[0])


def test_fairgrad_fails_at_small_gradients_there() -> None:
    """least_squares stops where it starts, at equal weights; its update ascends r1."""
    update = jd.FairGrad(alpha=1.0)(PAIR * 1e-8)
    assert float(PAIR[0] @ update) < 0 < float((PAIR @ ours("fairgrad", PAIR * 1e-8)[0]).min())


def test_nash_mtl_is_wrong_at_small_gradients_there_and_clips_always() -> None:
    rows = normal(3, 8)
    update = ours("nash_mtl", rows)[0]
    assert float(torch.cosine_similarity(jd.NashMTL(n_tasks=3)(rows * 1e-3), update, dim=0)) < 0.95
    assert float(jd.NashMTL(n_tasks=3)(rows).norm()) == pytest.approx(1.0)
    assert float(jd.NashMTL(n_tasks=3, max_norm=0.0)(rows * 0.1).norm()) == pytest.approx(3**0.5, rel=1e-6)
    with pytest.raises(ValueError):
        jd.NashMTL(n_tasks=1)(rows[:1])


def test_what_a_matrix_of_zeros_gives_there() -> None:
    rows = zeros(2, 3)
    assert torch.isnan(jd.UPGrad(projector=quadprog()).gramian_weighting(rows @ rows.T)).all()
    assert jd.MGDA().gramian_weighting(rows @ rows.T).tolist() == [1.0, 0.0]
    assert jd.CAGrad(c=0.4).gramian_weighting(rows @ rows.T).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError):
        jd.NashMTL(n_tasks=2)(rows)


def test_imtl_g_ascends_every_task_there() -> None:
    """Weights that nearly cancel, divided by their sum; we take the mean in just these draws."""
    draws = [normal(3, 4, seed) * torch.exp(normal(3, 1, seed + 1)) for seed in range(400)]
    ascending = [rows for rows in draws if bool((rows @ jd.IMTLG()(rows) < 0).all())]
    assert len(ascending) / len(draws) == pytest.approx(0.04, abs=0.02)
    assert all(ours("imtl_g", rows)[1] for rows in ascending)


def test_near_duplicates_freeze_aligned_mtl_there_below_our_cut_off() -> None:
    """Rows that differ by 1e-7 (float32 rounding): lambda_min is noise, and TorchJD scales by it."""
    rows = equal_rows(2, 40) + 1e-7 * normal(2, 40, 3)
    assert float(jd.AlignedMTL()(rows).norm() / rows.mean(dim=0).norm()) < 1e-6
    assert_close(ours("aligned_mtl", rows)[0], rows.mean(dim=0), rtol=1e-6, atol=1e-6)
