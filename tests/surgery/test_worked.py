"""One worked example per method, with the arithmetic in the test.

Mostly r1 = (1, 0), r2 = (-2, 1): G = [[1, -2], [-2, 5]], trace 6, determinant 1, norms 1 and sqrt 5, mean (-.5, .5).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cmtl_ir.strategy import registry

from . import claims

ROWS = torch.tensor([[1.0, 0.0], [-2.0, 1.0]], dtype=torch.float64)
ROOT5 = 5.0**0.5


def weights(name: str, rows: Tensor = ROWS, **fields: object) -> list[float]:
    return claims.apply(registry.load("surgery", name)(**fields), rows)[0].tolist()


def test_pcgrad_and_upgrad() -> None:
    # r1 loses its part along r2: c = (1, 2/5); r2 loses its part along r1: c = (2, 1); the mean of both
    assert weights("pcgrad") == pytest.approx([1.5, 0.7])
    assert weights("upgrad") == pytest.approx([1.5, 0.7])


def test_dualproj() -> None:
    # the mean (-.5, .5) hurts r1 by .5; nearest harmless point (0, .5) = 1 r1 + .5 r2
    assert weights("dualproj") == pytest.approx([1.0, 0.5])


def test_mgda() -> None:
    # on the segment: v1 = r2 . (r2 - r1) / ||r1 - r2||^2 = (5 + 2) / (1 + 5 + 4); both rows then gain .1 = ||d||^2
    assert weights("mgda") == pytest.approx([0.7, 0.3])


def test_imtl_g() -> None:
    # q = G^-1 n = (5 + 2 r, 2 + r) with r = sqrt 5; divided by its sum 7 + 3 r
    assert weights("imtl_g") == pytest.approx([(5 - ROOT5) / 4, (ROOT5 - 1) / 4])


def test_config() -> None:
    # q = C^-1 1 / n is parallel to (1, 1/r); G q = n up to the factor; mean projection (1 + r) / 2 over 1 . C^-1 1
    assert weights("config") == pytest.approx([(1 + ROOT5) / 4, (1 + ROOT5) / 4 / ROOT5])


def test_nash_mtl() -> None:
    # w1 (w1 - 2 w2) = 6 = w2 (5 w2 - 2 w1), so w1 = r w2 and w2^2 = 6 / (5 - 2 r); v = w / 2
    w2 = (6 / (5 - 2 * ROOT5)) ** 0.5
    assert weights("nash_mtl") == pytest.approx([ROOT5 * w2 / 2, w2 / 2])


def test_nash_mtl_clipped_as_published() -> None:
    # the bargaining solution has length sqrt 2 here, so max_norm 1 gives a unit vector, and 5 gives length sqrt 2
    for max_norm, length in ((1.0, 1.0), (5.0, 2**0.5)):
        update = torch.tensor(weights("nash_mtl", max_norm=max_norm), dtype=torch.float64) @ ROWS
        assert float(update.norm()) == pytest.approx(length)


def test_fairgrad() -> None:
    # rows (1, 0) and (0, 2): G / trace = diag(.2, .8), and G w = w^(-1/2) gives w = (.2^(-2/3), .8^(-2/3))
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    assert weights("fairgrad", rows, alpha=2.0) == pytest.approx([0.2 ** (-2 / 3) / 2, 0.8 ** (-2 / 3) / 2])


def test_aligned_mtl() -> None:
    # sqrt G = (G + 1) / sqrt 8, so G^-1/2 1/2 = sqrt 8 (.5, .25); sqrt(lambda_min) = sqrt(3 - sqrt 8) = sqrt 2 - 1
    assert weights("aligned_mtl") == pytest.approx([2 - 2**0.5, (2 - 2**0.5) / 2])


def test_aligned_mtl_scale_modes() -> None:
    # orthogonal rows of lengths 1, 2, 3: B = sqrt(common) / length, common = 4 (median) or 14/3 (mean of squares)
    rows = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    for mode, common in (("min", 1.0), ("median", 4.0), ("rmse", 14 / 3)):
        expected = [common**0.5 / length / 3 for length in (1, 2, 3)]
        assert weights("aligned_mtl", rows, scale_mode=mode) == pytest.approx(expected)


def test_cagrad() -> None:
    # g_w = (1 - 3 w2, w2), g_w . g0 = 2 w2 - .5: the cost rises by at least 2 - .85 with w2, so w = (1, 0);
    # d = g0 + .4 sqrt(.5) r1, over 1.4
    assert weights("cagrad", c=0.4) == pytest.approx([(0.5 + 0.4 * 0.5**0.5) / 1.4, 0.5 / 1.4])


def test_gradvac() -> None:
    # Cosine -2/r. Target 0 first: PCGrad, and both targets move to -1/r. Then r1 is turned to cosine -1/r:
    # c2 = (n1/n2) ((-1/r)(1/r) + (2/r)(2/r)) / (2/r) = .3, r2 likewise c1 = 1.5; targets move to -1.5/r
    surgery = registry.load("surgery", "gradvac")(beta=0.5)
    assert claims.apply(surgery, ROWS)[0].tolist() == pytest.approx([1.5, 0.7])
    assert surgery.state["targets"]["haze"]["rain"] == pytest.approx(-1 / ROOT5)
    assert claims.apply(surgery, ROWS, step=1)[0].tolist() == pytest.approx([1.25, 0.65])
    assert surgery.state["targets"]["rain"]["haze"] == pytest.approx(-1.5 / ROOT5)


@pytest.mark.parametrize(("leak", "values"), [(0.0, (1.5, -0.5)), (0.5, (1.25, 0.25))])
def test_graddrop(leak: float, values: tuple[float, float]) -> None:
    # coordinate (3, -1): P = (1 + 2/4) / 2 = .75; (3 - leak) / 2 three times out of four, else (3 leak - 1) / 2
    rows = torch.tensor([[3.0], [-1.0]], dtype=torch.float64).expand(2, 100_000)
    _, update = claims.apply(registry.load("surgery", "graddrop")(leak=leak), rows)
    assert set(update.tolist()) == set(values)
    assert float((update == values[0]).double().mean()) == pytest.approx(0.75, abs=0.006)
    assert float(update.mean()) == pytest.approx(1.0, abs=0.012)  # the mean of 3 and -1


def test_db_mtl() -> None:
    # r / l = (6, 8) and (0, 4), lengths 10 and 4: (l1 / 2) 10 ((.6, .8) + (0, 1)) = (1.5, 4.5); a tenth at beta .9
    rows = torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64)
    losses = torch.tensor([0.5, 0.25], dtype=torch.float64)
    for beta, factor in ((0.0, 1.0), (0.9, 0.1)):
        surgery = registry.load("surgery", "db_mtl")(beta=beta)
        context = claims.at_step(names=("haze", "rain"))
        update = surgery.combine(rows.clone(), surgery.weights(rows @ rows.T, losses, context), context)
        assert update.tolist() == pytest.approx([1.5 * factor, 4.5 * factor])
