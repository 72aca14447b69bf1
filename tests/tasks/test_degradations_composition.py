"""Compositions: order, severities, and messages for mistakes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from cmtl_ir.base.keyed import keys_of
from cmtl_ir.tasks.degradations.composition import Composition
from cmtl_ir.tasks.degradations.gaussian_blur import GaussianBlur
from cmtl_ir.tasks.degradations.haze import Haze
from tests.tasks.degradation_inputs import photo


def test_order_matters_and_is_drawn_per_sample() -> None:
    parts: Any = ({"name": "gaussian_noise", "sigma": [50]}, "gaussian_blur")
    given = Composition(parts=parts)(*photo())
    assert not torch.equal(given, Composition(parts=parts[::-1])(*photo()))
    keys = keys_of(0, torch.arange(64))
    order = Composition(parts=parts, order="random").parameters(keys)["order"]
    assert 16 < order[:, 0].sum() < 48 and torch.equal(order.sum(1), torch.ones(64, dtype=torch.int64))


def test_composition_at_a_severity_is_its_parts_at_that_severity() -> None:
    harsh = Composition.at_severity(5, parts=("gaussian_blur", "haze"))
    assert [type(part) for part in harsh.degradations] == [GaussianBlur, Haze]
    expected = [GaussianBlur.at_severity(5), Haze.at_severity(5)]
    assert [part.model_dump() for part in harsh.degradations] == [part.model_dump() for part in expected]


@pytest.mark.error("degradation: a mistake in a part of a composition")
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["rain_streaks", "hase"], "1: unknown degradation 'hase'"),
        ([{"name": "haze", "bta": [1, 2]}], "0.bta: unknown key; did you mean beta"),
        ([{"beta": [1, 2]}], "0: expected a name"),
        ("haze", "expected a list"),
    ],
)
def test_composition_says_which_part_is_wrong(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Composition(parts=parts)
