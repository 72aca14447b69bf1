"""Comparison with the published forms: autograd on the stated losses, torch's Adam, and the authors' update."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cmtl_ir.strategies.weighting.famo import Famo
from cmtl_ir.strategies.weighting.geometric import Geometric
from cmtl_ir.strategies.weighting.gradnorm import Gradnorm
from cmtl_ir.strategies.weighting.imtl_l import ImtlL
from cmtl_ir.strategies.weighting.uncertainty import Uncertainty
from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Weighting

from .cases import NAMES, Drive, typical

ROWS = ("a", "b", "c")


def stream(step: int) -> Tensor:
    """Losses [3] that fall, wobble and rise."""
    return torch.tensor([0.3 * 0.98**step, 0.1 + 0.05 * math.sin(step), 0.02 + 1e-4 * step], dtype=torch.float64)


# --------------------------------------------------------------------------------------------- learnt variances


@pytest.mark.parametrize("form", ["gaussian", "laplace"])
def test_uncertainty_is_joint_descent_on_the_stated_loss(form: str) -> None:
    half = 0.5 if form == "gaussian" else 1.0
    s = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam, drive = torch.optim.Adam([s], lr=0.01), Drive(Uncertainty(form=form, normalise="raw"))
    for step in range(300):
        losses = stream(step).requires_grad_()
        adam.zero_grad()
        (half * ((-s).exp() * losses + s)).sum().backward()
        torch.testing.assert_close(drive.step(step, ROWS, losses.tolist()), losses.grad, rtol=1e-9, atol=0)
        adam.step()


def test_laplace_is_twice_the_gaussian() -> None:
    gaussian, laplace = (Drive(Uncertainty(form=form, normalise="raw")) for form in ("gaussian", "laplace"))
    for step in range(200):  # equal up to Adam's eps, which a doubled gradient sees halved
        twice = 2 * gaussian.step(step, NAMES, typical(step % 12))
        torch.testing.assert_close(laplace.step(step, NAMES, typical(step % 12)), twice, rtol=1e-6, atol=0)


@pytest.mark.parametrize("normalise", ["raw", "mean1"])
def test_imtl_l_is_laplace_with_the_sign_turned_bit_for_bit(normalise: str) -> None:
    laplace, imtl_l = Drive(Uncertainty(form="laplace", normalise=normalise)), Drive(ImtlL(normalise=normalise))
    for step in range(200):
        losses = typical(step % 12)
        assert torch.equal(imtl_l.step(step, NAMES, losses), laplace.step(step, NAMES, losses))
    s, minus_s = imtl_l.part.state["value"], laplace.part.state["value"]
    assert all(torch.equal(s[name], -minus_s[name]) for name in NAMES)


@pytest.mark.parametrize("part", [Uncertainty(lr=0.05), ImtlL(lr=0.05)])
def test_at_rest_every_weighted_loss_is_the_same(part: Weighting) -> None:
    drive, losses = Drive(part), torch.tensor([0.3, 0.05, 0.01], dtype=torch.float64)
    for step in range(2000):
        weights = drive.step(step, ROWS, losses.tolist())
    torch.testing.assert_close(weights * losses, (weights * losses).mean().expand(3), rtol=1e-4, atol=0)


# ------------------------------------------------------------------------------------------------- geometric mean


def test_geometric_is_the_gradient_of_the_geometric_mean() -> None:
    losses = torch.tensor([0.3, 0.1, 0.02], dtype=torch.float64, requires_grad=True)
    (losses.prod() ** (1 / 3)).backward()
    weights = Drive(Geometric(normalise="raw")).step(0, ROWS, losses.tolist())
    torch.testing.assert_close(weights / 3, losses.grad)  # c = w / K


# ---------------------------------------------------------------------------------------------------------- FAMO


def famo_step(part: Famo, number: int, before: list[float], after: list[float]) -> list[float]:
    """One step with given losses before and after it."""
    again = torch.tensor(after, dtype=torch.float64)
    context = StepContext(number, "stage", ROWS[: len(before)], (1,) * len(before), 0, lambda: again)
    weights = part.scaled(torch.tensor(before, dtype=torch.float64), None, context)
    part.after_step(context)
    return weights.tolist()


def test_famo_two_steps_by_hand() -> None:
    part = Famo(normalise="raw")
    part.reset()
    # xi = 0: z = (1/2, 1/2); z / l = (2.5, 5)
    assert famo_step(part, 0, [0.2, 0.1], [0.1, 0.1]) == pytest.approx([1 / 3, 2 / 3], rel=1e-12)
    # delta = (log 2, 0), z . delta = log 2 / 2: gradient (1, -1) log 2 / 4; Adam's first step is lr against its sign
    g1 = math.log(2) / 4
    xi1 = 0.025 * g1 / (g1 + 1e-8)
    z = [1 / (1 + math.exp(2 * xi1)), 1 / (1 + math.exp(-2 * xi1))]  # softmax(-xi1, xi1)
    assert famo_step(part, 1, [0.1, 0.1], [0.1, 0.05]) == pytest.approx(z, rel=1e-12)  # equal losses cancel
    # delta = (0, log 2), z . delta = z_2 log 2; z_1 z_2 log 2 (-1, 1) + .001 xi
    g2 = -z[0] * z[1] * math.log(2) - 0.001 * xi1
    first = (0.9 * 0.1 * g1 + 0.1 * g2) / (1 - 0.9**2)
    second = (0.999 * 0.001 * g1**2 + 0.001 * g2**2) / (1 - 0.999**2)
    xi2 = -xi1 - 0.025 * first / (math.sqrt(second) + 1e-8)
    assert xi2 == pytest.approx(-0.023690, abs=1e-6)
    assert float(part.state["xi"]["value"]["a"]) == pytest.approx(xi2, rel=1e-10)
    assert float(part.state["xi"]["value"]["b"]) == pytest.approx(-xi2, rel=1e-10)


def test_famo_is_the_authors_update() -> None:
    """github.com/Cranial-XIX/FAMO: loss (D.log() z / c).sum(); w by Adam with weight decay on softmax's pull-back."""
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=0.025, weight_decay=1e-3)
    part = Famo(normalise="raw")
    part.reset()
    for step in range(100):
        losses, after = stream(step).requires_grad_(), stream(step + 1)
        z = torch.softmax(w, -1).detach()
        c = (z / losses).sum().detach()
        (losses.log() * z / c).sum().backward()
        assert famo_step(part, step, losses.tolist(), after.tolist()) == pytest.approx(losses.grad.tolist(), rel=1e-9)
        delta = losses.detach().log() - after.log()
        w.grad = torch.autograd.grad(torch.softmax(w, -1), w, delta)[0]
        adam.step()


def test_famo_gives_more_to_the_task_that_gained_least() -> None:
    part = Famo()
    part.reset()
    for step in range(50):
        weights = famo_step(part, step, [0.1, 0.1], [0.09, 0.0999])
    assert weights[1] > 1.2 > 0.8 > weights[0]


# ------------------------------------------------------------------------------------------------------ GradNorm


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_gradnorm_is_the_double_backward(alpha: float) -> None:
    """dL/dw through the norms of the gradients of w_k l_k, as the paper has it, over 20 steps of a tiny network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double()
        data = [(torch.randn(5, 4).double(), k * torch.randn(5, 2).double()) for k in (1.0, 0.3, 2.0)]
    parameters = list(network.parameters())
    part = Gradnorm(alpha=alpha)
    part.reset()
    first, w = None, torch.ones(3, dtype=torch.float64)
    for step in range(20):
        losses = torch.stack([(network(x) - y).abs().mean() for x, y in data])
        first = losses.detach() if first is None else first
        leaf = w.clone().requires_grad_()
        scaled = [torch.autograd.grad(leaf[k] * losses[k], parameters, create_graph=True) for k in range(3)]
        norms = torch.stack([torch.cat([g.flatten() for g in gradient]).norm() for gradient in scaled])  # w_k n_k
        rate = losses.detach() / first
        target = (norms.mean() * (rate / rate.mean()) ** alpha).detach()
        slope = torch.autograd.grad((norms - target).abs().sum(), leaf, retain_graph=True)[0]  # sign(.) n_k

        raw = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        rows = torch.stack([torch.cat([g.flatten() for g in gradient]) for gradient in raw])  # [3, P]
        context = StepContext(step, "stage", ROWS, (5, 5, 5), 0)
        weights = part.scaled(losses.detach(), rows @ rows.T, context)
        torch.testing.assert_close(weights, w, rtol=1e-12, atol=0)
        plain = rows.norm(dim=1)
        torch.testing.assert_close(part.slope(w, plain, rate) * plain.mean(), slope, rtol=1e-12, atol=1e-14)

        w = w - 0.025 * slope / plain.mean()
        w = w * 3 / w.sum()
        update = (weights @ rows).split([parameter.numel() for parameter in parameters])
        with torch.no_grad():
            for parameter, gradient in zip(parameters, update, strict=True):
                parameter -= 0.05 * gradient.view_as(parameter)
