"""Two tasks by hand: the values of every method, with the arithmetic next to them."""

from __future__ import annotations

import math

import pytest
import torch

from cmtl_ir.base.keyed import name_key, normal
from cmtl_ir.strategies.weighting.awl import Awl
from cmtl_ir.strategies.weighting.dtp import Dtp
from cmtl_ir.strategies.weighting.dwa import Dwa
from cmtl_ir.strategies.weighting.equal import Equal
from cmtl_ir.strategies.weighting.geometric import Geometric
from cmtl_ir.strategies.weighting.gradnorm import Gradnorm
from cmtl_ir.strategies.weighting.imtl_l import ImtlL
from cmtl_ir.strategies.weighting.manual import Manual
from cmtl_ir.strategies.weighting.proportional import Proportional
from cmtl_ir.strategies.weighting.rlw import Rlw
from cmtl_ir.strategies.weighting.stch import Stch
from cmtl_ir.strategies.weighting.tur import Tur
from cmtl_ir.strategies.weighting.uncertainty import Uncertainty
from cmtl_ir.strategy.data import StepContext

from .cases import Drive

ROWS = ("rain", "haze")


def test_proportional() -> None:
    # 2 * (6, 2) / 8
    assert Drive(Proportional()).step(0, ROWS, [0.1, 0.2], [6, 2]).tolist() == [1.5, 0.5]


def test_equal() -> None:
    assert Drive(Equal()).step(0, ROWS, [0.1, 0.2], [6, 2]).tolist() == [1.0, 1.0]


def test_manual() -> None:
    # (1, 3) / mean 2
    part = Manual(by_task={"rain": 1.0, "haze": 3.0})
    assert Drive(part).step(0, ROWS, [0.1, 0.2]).tolist() == [0.5, 1.5]
    raw = Drive(part.model_copy(update={"normalise": "raw"}))
    assert raw.step(0, ("review:haze", "blur"), [0.1, 0.2]).tolist() == [3.0, 1.0]  # of its task; unnamed: 1
    assert list(Manual(by_task={"review:haze": 2.0}).named_tasks()) == ["haze"]


def test_geometric() -> None:
    # GM(.1, .4) = .2; .2 / .1 = 2, .2 / .4 = .5
    assert Drive(Geometric(normalise="raw")).step(0, ROWS, [0.1, 0.4]).tolist() == pytest.approx([2.0, 0.5])


def test_uncertainty() -> None:
    # s = 0: w = (1/2, 1/2); ds = (1 - (.5, 2)) / 2 = (.25, -.5); Adam's first step is -lr sign: s = (-.01, .01)
    drive = Drive(Uncertainty(normalise="raw"))
    assert drive.step(0, ROWS, [0.5, 2.0]).tolist() == [0.5, 0.5]
    assert drive.step(1, ROWS, [0.5, 2.0]).tolist() == pytest.approx([0.50502508, 0.49502492], abs=1e-7)


def test_imtl_l() -> None:
    # s = 0: w = (1, 1); ds = (.5 - 1, 2 - 1); s = (.01, -.01)
    drive = Drive(ImtlL(normalise="raw"))
    assert drive.step(0, ROWS, [0.5, 2.0]).tolist() == [1.0, 1.0]
    assert drive.step(1, ROWS, [0.5, 2.0]).tolist() == pytest.approx([1.01005017, 0.99004983], abs=1e-7)


def test_dwa() -> None:
    # two windows of one step: r = (.5 / 1, .8 / 1); e^.25 = 1.284025, e^.4 = 1.491825, sum 2.775850
    drive = Drive(Dwa(window=1, normalise="raw"))
    assert drive.step(0, ROWS, [1.0, 1.0]).tolist() == [1.0, 1.0]
    assert drive.step(1, ROWS, [0.5, 0.8]).tolist() == [1.0, 1.0]
    assert drive.step(2, ROWS, [9.0, 9.0]).tolist() == pytest.approx([0.925140, 1.074860], abs=1e-6)


def test_dwa_averages_over_its_windows() -> None:
    # window means rain .3, .15 and haze .2, .2: r = (.5, 1); e^.25 = 1.284025, e^.5 = 1.648721, sum 2.932747
    drive = Drive(Dwa(window=2))
    for step, losses in enumerate([[0.4, 0.1], [0.2, 0.3], [0.2, 0.2], [0.1, 0.2]]):
        assert drive.step(step, ROWS, losses).tolist() == [1.0, 1.0]
    assert drive.step(4, ROWS, [0.5, 0.1]).tolist() == pytest.approx([0.875647, 1.124353], abs=1e-6)


def test_rlw() -> None:
    # z of each row from its own key; 2 softmax(z) = 2 / (1 + e^(z_other - z))
    z = [float(normal(torch.tensor([name_key(3, 5, "rlw", row)]))) for row in ROWS]
    expected = [2 / (1 + math.exp(z[1] - z[0])), 2 / (1 + math.exp(z[0] - z[1]))]
    assert Drive(Rlw(), seed=3).step(5, ROWS, [0.1, 0.2]).tolist() == pytest.approx(expected, rel=1e-12)


def test_rlw_draws_standard_normals_anew_every_step() -> None:
    drive = Drive(Rlw(normalise="raw"))
    logs = torch.stack([drive.step(step, ROWS, [0.1, 0.1]).log() for step in range(2000)])
    difference = logs[:, 0] - logs[:, 1]  # z_1 - z_2: mean 0, variance 2
    assert abs(float(difference.mean())) < 0.1 and float(difference.var()) == pytest.approx(2.0, rel=0.1)


STCH_STEPS = [[0.2, 0.4], [0.1, 0.2], [0.05, 0.2]]  # warm-up, nadir, after


@pytest.mark.parametrize(("mu", "expected"), [(1.0, [40 / 3, 20 / 3]), (0.5, [8.0, 8.0])])
def test_stch(mu: float, expected: list[float]) -> None:
    # l / nadir = (.5, 1). mu 1: softmax (1/3, 2/3), w = 2/3 / .05, 4/3 / .2.
    # mu .5: squares (.25, 1), softmax (.2, .8), w = .4 / .05, 1.6 / .2
    drive = Drive(Stch(window=1, warmup=1, mu=mu, normalise="raw"))
    assert drive.step(0, ROWS, STCH_STEPS[0]).tolist() == pytest.approx([5.0, 2.5])
    assert drive.step(1, ROWS, STCH_STEPS[1]).tolist() == pytest.approx([10.0, 5.0])
    assert drive.step(2, ROWS, STCH_STEPS[2]).tolist() == pytest.approx(expected)
    assert drive.part.state["rows"]["rain"]["nadir"].item() == 0.1


@pytest.mark.parametrize("mu", [1.0, 0.3])
def test_stch_is_the_gradient_of_libmtls_loss(mu: float) -> None:
    """LibMTL's STCH.py: mu log sum exp((log(l / nadir) - max) / mu) * K after the warm-up, sum log l before it."""
    drive = Drive(Stch(window=2, warmup=1, mu=mu, normalise="raw"))
    rows, seen = ("a", "b", "c"), []
    for step in range(8):
        losses = torch.tensor([0.2 / (step + 1), 0.1 + 0.01 * step, 0.3 - 0.02 * step], dtype=torch.float64)
        seen.append(losses)
        leaf = losses.clone().requires_grad_()
        if step < 4:
            leaf.log().sum().backward()
        else:
            logs = (leaf / torch.stack(seen[2:4]).mean(0) + 1e-20).log()
            top = logs.max().detach()
            (mu * (((logs - top) / mu).exp().sum()).log() * 3).backward()  # the constant top / mu is dropped there too
        torch.testing.assert_close(drive.step(step, rows, losses.tolist()), leaf.grad, rtol=1e-12, atol=0)


def test_stch_at_mu_one_is_constant() -> None:
    """softmax(log(l / nadir)) / l = (1 / nadir) / sum(l / nadir): under mean1 the losses cancel."""
    drive = Drive(Stch(window=1, warmup=0))
    drive.step(0, ROWS, [0.1, 0.3])
    for step in range(1, 5):
        assert drive.step(step, ROWS, [0.1 / step, 0.05 + step]).tolist() == pytest.approx([1.5, 0.5])


def test_gradnorm() -> None:
    # n = (3, 1), w = (1, 1), r = (1, 1): w n - 2 = (1, -1), dw = (3/2, -1/2); (1 - .0375, 1 + .0125) * 2 / 1.975
    part = Gradnorm()
    part.reset()
    context = StepContext(0, "stage", ROWS, (3, 3), 0)
    gramian = torch.tensor([[9.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    losses = torch.tensor([0.2, 0.4], dtype=torch.float64)
    assert part.scaled(losses, gramian, context).tolist() == [1.0, 1.0]
    assert part.scaled(losses, gramian, context).tolist() == pytest.approx([0.9625 / 0.9875, 1.0125 / 0.9875])


def test_gradnorm_favours_the_slower_task() -> None:
    # equal norms 1, l / first = (1/2, 1), r = (2/3, 4/3), targets r^1.5 = (.544, 1.540): (1 - .025, 1 + .025)
    part = Gradnorm()
    part.reset()
    context = StepContext(0, "stage", ROWS, (3, 3), 0)
    gramian = torch.eye(2, dtype=torch.float64)
    part.scaled(torch.tensor([0.2, 0.4], dtype=torch.float64), gramian, context)
    part.scaled(torch.tensor([0.1, 0.4], dtype=torch.float64), gramian, context)
    weights = part.scaled(torch.tensor([0.1, 0.4], dtype=torch.float64), gramian, context)
    assert weights.tolist() == pytest.approx([0.975, 1.025])


def test_dtp() -> None:
    # k (.2, .8), (.4, .7), (.5, .9) smoothed: (.2, .8), (.22, .79), (.248, .801); w = -(1 - k) log k
    raw, scaled = Drive(Dtp(normalise="raw")), Drive(Dtp())
    expected = [
        ((1.28755, 0.044629), (1.932999, 0.067001)),
        ((1.18102, 0.049502), (1.919544, 0.080456)),
        ((1.048534, 0.044157), (1.919178, 0.080822)),
    ]
    for step, (progress, (own, mean_1)) in enumerate(zip([(0.2, 0.8), (0.4, 0.7), (0.5, 0.9)], expected, strict=True)):
        losses = [0.1 * (1 - k) for k in progress]  # the degraded images have the loss .1
        assert raw.step(step, ROWS, losses).tolist() == pytest.approx(own, abs=5e-6)
        assert scaled.step(step, ROWS, losses).tolist() == pytest.approx(mean_1, abs=5e-7)
    worst = Dtp(floor=0.01).of_progress(torch.tensor([0.01])).item()
    assert worst == pytest.approx(4.56, abs=5e-3)
    assert Drive(Dtp()).step(0, ROWS, [0.03, 0.03]).tolist() == pytest.approx([1.0, 1.0], abs=5e-16)


@pytest.mark.parametrize(("loss", "weight", "objective"), [(0.02, 100.0, -7.210340372), (0.05, 40.0, -5.377758908)])
def test_tur_stays_at_its_fixed_point(loss: float, weight: float, objective: float) -> None:
    # u = l / 2: w = 1 / u = 2 / l; L = l / u + 2 log u
    drive, u = Drive(Tur(normalise="raw")), loss / 2
    assert drive.step(0, ROWS[:1], [loss]).item() == 1.0
    drive.part.state["value"]["rain"] = torch.tensor(math.log(u), dtype=torch.float64)
    drive.part.state["first"]["rain"] = drive.part.state["second"]["rain"] = torch.zeros((), dtype=torch.float64)
    assert drive.step(1, ROWS[:1], [loss]).item() == pytest.approx(weight, rel=1e-9)
    assert loss / u + 2 * math.log(u) == pytest.approx(objective, abs=1e-9)
    assert drive.step(2, ROWS[:1], [loss]).item() == pytest.approx(weight, rel=1e-6)


def test_tur_is_uncertainty_under_mean_1() -> None:
    tur, laplace = Drive(Tur(lr=0.1)), Drive(Uncertainty(form="laplace", lr=0.1))
    for step in range(400):
        last = [drive.step(step, ROWS, [0.02, 0.05]).tolist() for drive in (tur, laplace)]
    assert last[0] == pytest.approx(last[1], rel=1e-3) and last[0] == pytest.approx([10 / 7, 4 / 7], rel=1e-3)


@pytest.mark.parametrize(
    ("loss", "square", "weight", "objective"),
    [
        (0.01, 0.105124922, 4.756246099, 0.097541651),
        (0.05, 0.25, 2.0, 0.211571776),
        (0.2, 0.558257569, 0.895643924, 0.400912912),
    ],
)
def test_awl_stays_at_its_fixed_point(loss: float, square: float, weight: float, objective: float) -> None:
    # u^2 = (l + sqrt(l^2 + 4 l)) / 2; w = .5 / u^2; L = w l + .5 log(1 + u^2)
    exact = (loss + math.sqrt(loss * loss + 4 * loss)) / 2
    drive = Drive(Awl(normalise="raw"))
    assert drive.step(0, ROWS[:1], [loss]).item() == pytest.approx(0.5, rel=1e-7)
    for step in range(1, 600):
        learnt = drive.step(step, ROWS[:1], [loss]).item()
    assert learnt == pytest.approx(weight, rel=1e-4)
    drive.part.state["value"]["rain"] = torch.tensor(math.sqrt(exact) - 1, dtype=torch.float64)
    found = drive.step(600, ROWS[:1], [loss]).item()
    assert found == pytest.approx(weight, rel=2e-7) and exact == pytest.approx(square, abs=1e-9)
    assert found * loss + 0.5 * math.log(1 + exact) == pytest.approx(objective, abs=1e-8)
