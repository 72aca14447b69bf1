"""Properties of every surgery, on families of inputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cmtl_ir.strategy import registry
from cmtl_ir.strategy.parts import Surgery

from . import claims
from .families import DEFICIENT, EVERYTHING, FULL_RANK, NON_ZERO, SCALES, SHAPES, ZERO, equal_rows, normal

METHODS: dict[str, type[Surgery]] = {name: registry.load("surgery", name) for name in registry.names("surgery")}
SETTINGS = {"db_mtl": {"beta": 0.0}}  # without its running means: they start at 0
ALWAYS_HARMLESS = ("mgda", "upgrad", "dualproj", "nash_mtl", "fairgrad")
HARMLESS_AT_FULL_RANK = ("config", "imtl_g")


def maker(name: str, **fields: float) -> claims.Make:
    """Makes the method with its published defaults."""
    return lambda: METHODS[name](**SETTINGS.get(name, {}), **fields)


every_method = pytest.mark.parametrize("name", METHODS)


def matrices(family: dict[str, Tensor]) -> pytest.MarkDecorator:
    """Parametrises `rows` over a family."""
    return pytest.mark.parametrize("rows", family.values(), ids=family.keys())


@every_method
def test_a_method_says_where_it_comes_from_and_what_it_costs(name: str) -> None:
    part = METHODS[name]
    assert registry.snake_case(part.__name__) == name
    assert "20" in (part.__doc__ or "").split("\n")[0]  # a year
    assert part.cost.memory and part.needs in ("gramian", "rows")
    assert all(field.description for field in part.model_fields.values())


@every_method
@matrices(EVERYTHING)
def test_structure(name: str, rows: Tensor) -> None:
    claims.assert_structure(maker(name), rows)


@every_method
@matrices(NON_ZERO)
def test_scale_equivariance(name: str, rows: Tensor) -> None:
    for scale in SCALES:
        claims.assert_scale_equivariant(maker(name), rows, scale)


@every_method
@matrices(ZERO)
def test_a_gramian_of_zeros_leaves_the_mean(name: str, rows: Tensor) -> None:
    claims.assert_mean_of_zeros(maker(name), rows)


@every_method
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_rows_give_their_mean(name: str, shape: tuple[int, int]) -> None:
    claims.assert_mean_of_equals(maker(name), equal_rows(*shape))


@every_method
@pytest.mark.parametrize("columns", [1, 7, 300])
def test_one_row_is_left_alone(name: str, columns: int) -> None:
    row = normal(1, columns)
    _, update = claims.apply(maker(name)(), row)
    torch.testing.assert_close(update, row[0])


@every_method
@matrices(FULL_RANK)
def test_order_of_rows_does_not_matter(name: str, rows: Tensor) -> None:
    claims.assert_equivariant_to_order(maker(name), rows, by_weights=name != "mgda")


@every_method
@matrices(DEFICIENT)
def test_order_of_dependent_rows_does_not_matter_to_the_update(name: str, rows: Tensor) -> None:
    claims.assert_equivariant_to_order(maker(name), rows, by_weights=False)


@pytest.mark.parametrize("name", ALWAYS_HARMLESS)
@matrices(EVERYTHING)
def test_no_row_rises(name: str, rows: Tensor) -> None:
    claims.assert_non_conflicting(maker(name), rows)


@pytest.mark.parametrize("name", HARMLESS_AT_FULL_RANK)
@matrices(FULL_RANK)
def test_no_row_rises_at_full_rank(name: str, rows: Tensor) -> None:
    claims.assert_non_conflicting(maker(name), rows)


@matrices(EVERYTHING)
def test_mgda_improves_every_row_by_the_squared_length_of_its_update(rows: Tensor) -> None:
    claims.assert_non_conflicting(maker("mgda"), rows, margin=1.0)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ALWAYS_HARMLESS + HARMLESS_AT_FULL_RANK])
def test_the_others_do_let_a_row_rise(name: str) -> None:
    """Documentation, not a wish: among 200 Gaussian draws at K = P = 4 each of these hurts some row."""
    make = maker(name)
    harmed = 0
    for seed in range(200):
        rows = normal(4, 4, seed)
        update = claims.apply(make(), rows, step=seed)[1]
        harmed += int(float((rows @ update).min()) < -1e-6)
    assert harmed > 10


@pytest.mark.parametrize(("columns", "share"), [(4, 0.20), (6, 0.07), (50, 0.0)])
def test_pcgrad_lets_a_row_rise_where_rows_are_short_of_room(columns: int, share: float) -> None:
    make = maker("pcgrad")
    draws = [normal(4, columns, seed) for seed in range(1000)]
    harmed = [bool((rows @ claims.apply(make(), rows, step=s)[1]).min() < -1e-9) for s, rows in enumerate(draws)]
    assert sum(harmed) / len(draws) == pytest.approx(share, abs=0.035)
