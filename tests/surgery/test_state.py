"""State of surgeries: kept by row name, saved as a tree of plain values, and restored exactly."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.strategy import registry
from cmtl_ir.strategy.parts import Surgery

from . import claims
from .families import NAMES, normal

STATEFUL = ("gradvac", "db_mtl", "torchjd:GradVac", "torchjd:PCD")


def rows_at(step: int) -> tuple[Tensor, list[str]]:
    """Four rows that turn from step to step."""
    return normal(4, 12) + 0.5 * normal(4, 12, step), list(NAMES[:4])


def plain(tree: Any) -> Any:
    """The tree with tensors as lists; JSON takes the rest or fails."""
    if isinstance(tree, dict):
        assert all(isinstance(key, str) for key in tree)
        return {key: plain(value) for key, value in tree.items()}
    return tree.tolist() if isinstance(tree, Tensor) else tree


def updates(surgery: Surgery, steps: range) -> list[Tensor]:
    """Updates of these steps."""
    return [claims.apply(surgery, *(rows_at(step)[0], step, rows_at(step)[1]))[1] for step in steps]


@pytest.mark.parametrize("name", STATEFUL)
def test_a_resumed_run_continues_bit_for_bit(name: str) -> None:
    if name.startswith("torchjd"):
        pytest.importorskip("torchjd")
    part = registry.load("surgery", name)
    whole, first = part(), part()
    expected = updates(whole, range(10))
    updates(first, range(5))
    saved = copy.deepcopy(first.state_dict())
    assert saved and json.dumps(plain(saved))
    resumed = part()
    resumed.load_state_dict(saved)
    for one, other in zip(updates(resumed, range(5, 10)), expected[5:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", STATEFUL)
def test_reset_starts_anew(name: str) -> None:
    if name.startswith("torchjd"):
        pytest.importorskip("torchjd")
    surgery = registry.load("surgery", name)()
    expected = updates(surgery, range(4))
    surgery.reset()
    assert surgery.state == {}
    assert all(torch.equal(a, b) for a, b in zip(updates(surgery, range(4)), expected, strict=True))


def test_gradvac_remembers_a_pair_through_an_absence() -> None:
    surgery = registry.load("surgery", "gradvac")()
    claims.apply(surgery, normal(3, 9), names=["haze", "rain", "noise"])
    before = copy.deepcopy(surgery.state["targets"])
    claims.apply(surgery, normal(2, 9), step=1, names=["noise", "haze"])
    after = surgery.state["targets"]
    assert after["haze"]["rain"] == before["haze"]["rain"] and after["haze"]["noise"] != before["haze"]["noise"]


def test_gradvac_targets_stay_off_the_pole() -> None:
    """Rows that agree for long, then conflict: without the clamp the turn has no bound."""
    surgery = registry.load("surgery", "gradvac")(beta=1.0)
    for step in range(3):
        claims.apply(surgery, normal(1, 9).expand(2, -1), step)
    assert surgery.state["targets"]["haze"]["rain"] == 0.99
    v, _ = claims.apply(surgery, normal(2, 9), step=3)
    assert float(v.abs().max()) < 20


def test_db_mtl_keeps_its_means_by_name() -> None:
    """A row that misses a step finds its running mean again, whatever its position."""
    surgery = registry.load("surgery", "db_mtl")()
    claims.apply(surgery, normal(3, 9), names=["haze", "rain", "noise"])
    mean = surgery.state["means"]["rain"].clone()
    claims.apply(surgery, normal(2, 9, 1), step=1, names=["noise", "haze"])
    assert torch.equal(surgery.state["means"]["rain"], mean)
    assert surgery.state["steps"] == 2


def test_db_mtl_does_not_write_into_the_rows_it_keeps() -> None:
    surgery = registry.load("surgery", "db_mtl")()
    rows = normal(2, 9)
    context = claims.at_step(names=NAMES[:2])
    update = surgery.combine(rows, surgery.weights(rows @ rows.T, torch.ones(2).double(), context), context)
    kept = copy.deepcopy(surgery.state["means"])
    rows.zero_()
    update.zero_()
    assert all(torch.equal(kept[name], surgery.state["means"][name]) for name in kept)


def test_guards_are_counted() -> None:
    surgery = registry.load("surgery", "config")()
    opposite = torch.cat([normal(1, 5), -normal(1, 5)])
    for step in range(3):
        claims.apply(surgery, opposite, step)
    assert surgery.state_dict() == {"guarded": 3}


@pytest.mark.parametrize("name", registry.names("surgery"))
def test_no_method_touches_the_global_generator_or_the_gramian(name: str) -> None:
    surgery, rows = registry.load("surgery", name)(), normal(5, 12)
    gramian, generator = rows @ rows.T, torch.get_rng_state()
    copied, context = gramian.clone(), claims.at_step(names=NAMES[:5])
    v = surgery.weights(gramian, torch.ones(5, dtype=torch.float64), context)
    surgery.combine(rows, v, context)
    assert torch.equal(torch.get_rng_state(), generator) and torch.equal(gramian, copied)


@pytest.mark.parametrize("name", registry.names("surgery"))
def test_rows_in_single_precision_at_extreme_scales(name: str) -> None:
    rows = normal(4, 20).float()
    surgery = registry.load("surgery", name)
    update = claims.apply(surgery(), rows)[1]
    assert update.dtype == torch.float32
    for scale in (1e-17, 1e17):
        scaled = claims.apply(surgery(), rows * scale)[1] / scale
        torch.testing.assert_close(scaled, update, rtol=1e-3, atol=1e-4)
