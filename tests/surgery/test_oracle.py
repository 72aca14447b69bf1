"""TorchJD 0.18 as the reference, on random, rank-deficient, stationary and scaled rows.

TorchJD cuts off at absolute norms, so it is fed rows of ||G|| ~ 1; what sums rows there is divided by K.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cmtl_ir.base import keyed
from cmtl_ir.strategies.surgery.graddrop import CHUNK
from cmtl_ir.strategy import registry

from . import claims
from .families import DEFICIENT, FULL_RANK, NAMES, STATIONARY, normal
from .test_claims import maker, matrices

jd = pytest.importorskip("torchjd.aggregation", reason='pip install "torchjd[full]"')
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*not DPP.*"),
]

ROWS = {name: rows / rows.norm() for name, rows in (FULL_RANK | DEFICIENT | STATIONARY).items()}
FULL = {name: rows for name, rows in ROWS.items() if name in FULL_RANK}


def quadprog() -> object:
    """A projector without ridge, as far as the solver bears it."""
    return pytest.importorskip("torchjd.linalg").QuadprogProjector(norm_eps=0, reg_eps=1e-12)


def ours(name: str, rows: Tensor, **fields: float) -> tuple[Tensor, bool]:
    """The update, and whether a guard took the mean."""
    surgery = maker(name, **fields)()
    return claims.apply(surgery, rows)[1], bool(surgery.state.get("guarded"))


@matrices(ROWS)
def test_upgrad_and_dualproj(rows: Tensor) -> None:
    claims.assert_near(ours("upgrad", rows)[0], jd.UPGrad(projector=quadprog())(rows), 1.0, 1e-8)
    claims.assert_near(ours("dualproj", rows)[0], jd.DualProj(projector=quadprog())(rows), 1.0, 1e-8)


@matrices({name: rows for name, rows in ROWS.items() if len(rows) in (2, 5) and rows.shape[1] < 50})
def test_mgda(rows: Tensor) -> None:
    """Frank-Wolfe ends within .004 of the point; ours is never longer."""
    update, oracle = ours("mgda", rows)[0], jd.MGDA(1e-9, 5000)(rows)
    claims.assert_near(update, oracle, 1.0, 4e-3)
    assert float(update.norm()) <= float(oracle.norm()) + 1e-12


@pytest.mark.parametrize("c", [0.2, 0.7])
@matrices(ROWS)
def test_cagrad_up_to_its_length(rows: Tensor, c: float) -> None:
    """In the same ball around the mean, our worst-off row gains at least what the conic solver finds."""
    update, guarded = ours("cagrad", rows, c=c)
    oracle = jd.CAGrad(c=c, norm_eps=1e-9)(rows) / (1 + c)
    length = float(rows.mean(dim=0).norm())
    if not guarded and length > 1e-6 and float(oracle.norm()) > 0:
        claims.assert_near(update, oracle, length, 2e-4)
        assert float((rows @ update).min()) >= float((rows @ oracle).min()) - 1e-8 * length


@pytest.mark.parametrize("mode", ["min", "median", "rmse"])
@matrices(ROWS)
def test_aligned_mtl(rows: Tensor, mode: str) -> None:
    oracle = jd.AlignedMTL(scale_mode=mode)(rows)
    claims.assert_near(ours("aligned_mtl", rows, scale_mode=mode)[0], oracle, 1.0, 1e-12)


@matrices(FULL)
def test_imtl_g_and_config(rows: Tensor) -> None:
    update, guarded = ours("imtl_g", rows)
    if not guarded:
        claims.assert_near(update, jd.IMTLG()(rows), 1.0, 1e-12)
    claims.assert_near(ours("config", rows)[0], jd.ConFIG()(rows) / len(rows), 1.0, 1e-12)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
@matrices(FULL)
def test_fairgrad(rows: Tensor, alpha: float) -> None:
    update, guarded = ours("fairgrad", rows, alpha=alpha)
    if not guarded:
        oracle = jd.FairGrad(alpha=alpha)(rows) / len(rows)
        claims.assert_near(update, oracle, float(oracle.norm()), 1e-6)


@matrices({name: rows for name, rows in FULL.items() if len(rows) in (2, 3, 5)})
def test_nash_mtl_up_to_its_length(rows: Tensor) -> None:
    update, guarded = ours("nash_mtl", rows)
    if not guarded:
        oracle = jd.NashMTL(n_tasks=len(rows), max_norm=0.0, optim_niter=200)(rows)
        assert float(torch.cosine_similarity(update, oracle, dim=0)) > 1 - 1e-9


# ------------------------------------------------------------------------ methods that draw: the same draws


def our_orders(monkeypatch: pytest.MonkeyPatch, purpose: str, count: int, others_only: bool) -> Callable[[int], None]:
    """Make torch.randperm give TorchJD the orders that our step would use."""

    def prepare(step: int) -> None:
        context = claims.at_step(step, NAMES[:count])
        orders = iter([context.keyed_order(context.rows, f"{purpose} {name}") for name in context.rows])
        numbers = iter(range(count))

        def randperm(size: int) -> Tensor:
            i, order = next(numbers), next(orders)
            others = [j for j in range(count) if j != i]
            picked = [others.index(j) for j in order if j != i] if others_only else order
            assert len(picked) == size
            return torch.tensor(picked)

        monkeypatch.setattr(torch, "randperm", randperm)

    return prepare


@matrices(ROWS)
def test_pcgrad_with_the_same_orders(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    update = ours("pcgrad", rows)[0]
    our_orders(monkeypatch, "pcgrad", len(rows), others_only=False)(0)
    claims.assert_near(jd.PCGrad()(rows) / len(rows), update, 1.0, 1e-9)


@matrices(FULL)
def test_gradvac_with_the_same_orders_over_ten_steps(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    surgery, oracle = maker("gradvac")(), jd.GradVac(eps=1e-14)
    prepare = our_orders(monkeypatch, "gradvac", len(rows), others_only=True)
    for step in range(10):
        turned = rows + 0.3 * rows.norm(dim=1, keepdim=True) * normal(*rows.shape, step) / rows.shape[1] ** 0.5
        update = claims.apply(surgery, turned, step)[1]
        prepare(step)
        claims.assert_near(oracle(turned) / len(rows), update, 1.0, 1e-6)


@matrices(ROWS)
def test_graddrop_with_the_same_draws(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows.shape[1] <= CHUNK
    keys = keyed.substream(torch.tensor([claims.at_step().key("graddrop")]), 0)
    drawn = keyed.uniform(keys, (rows.shape[1],))[0].double()
    monkeypatch.setattr(torch, "rand", lambda *args, **kwargs: drawn)
    oracle = torch.nan_to_num(jd.GradDrop()(rows) / len(rows))
    claims.assert_near(ours("graddrop", rows)[0], oracle, 1.0, 1e-9)


@pytest.mark.parametrize(("beta", "sigma"), [(0.9, 0.0), (0.5, 0.7)])
def test_db_mtl_against_the_release(beta: float, sigma: float) -> None:
    """LibMTL's loop as released, times the two factors that are ours: loss of the longest row, 1 / K."""
    surgery = registry.load("surgery", "db_mtl")(beta=beta, sigma=sigma)
    buffer = torch.zeros(4, 30, dtype=torch.float64)
    for step in range(6):
        rows = normal(4, 30, step)
        losses = 0.1 + 0.3 * normal(4, 1, step + 1).abs().flatten()
        context = claims.at_step(step, NAMES[:4])
        update = surgery.combine(rows.clone(), surgery.weights(rows @ rows.T, losses, context), context)
        of_logs = rows / losses[:, None]
        buffer = of_logs + beta / (step + 1) ** sigma * (buffer - of_logs)
        lengths = buffer.norm(dim=-1)
        released = ((lengths.max() / (lengths + 1e-8))[:, None] * buffer).sum(dim=0)
        assert_close(update, released * losses[lengths.argmax()] / 4, rtol=1e-6, atol=1e-9)
