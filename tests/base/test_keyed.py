"""Random numbers are pure functions of their keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from cmtl_ir.base import keyed


def keys(count: int, name: str = "rain") -> torch.Tensor:
    return keyed.keys_of(keyed.name_key(0, name), torch.arange(count))


def test_the_finaliser_is_splitmix64() -> None:
    # Reference: the published C code of splitmix64 with seed 1234567; its first two outputs.
    state = torch.tensor([1234567]) + torch.tensor([1, 2]) * keyed.GOLDEN
    outputs = [int(value) % (1 << 64) for value in keyed.mix(state)]
    assert outputs == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("draw", [keyed.uniform, keyed.normal])
def test_numbers_do_not_depend_on_the_batch(draw) -> None:
    whole = draw(keys(8), (3, 5))
    alone = torch.cat([draw(keys(8)[i : i + 1], (3, 5)) for i in range(8)])
    assert torch.equal(whole, alone)


def test_uniform_numbers_are_uniform_and_open() -> None:
    numbers = keyed.uniform(keys(16), (4096,)).numpy()
    assert numbers.min() > 0.0 and numbers.max() < 1.0
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3


def test_normal_numbers_are_normal_and_uncorrelated() -> None:
    numbers = keyed.normal(keys(16), (4097,)).numpy()
    assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(numbers) - np.eye(16)).max() < 0.08
    first, second = numbers[:, :2048], numbers[:, 2049:]  # the two numbers of one hash
    assert abs(np.corrcoef(first.ravel(), second[:, :2048].ravel())[0, 1]) < 0.03


def test_different_names_and_purposes_give_different_numbers() -> None:
    assert not torch.equal(keyed.uniform(keys(4)), keyed.uniform(keys(4, "haze")))
    assert not torch.equal(
        keyed.uniform(keyed.substream(keys(4), "crop")), keyed.uniform(keyed.substream(keys(4), "flip"))
    )
    assert keyed.name_key("1") != keyed.name_key(1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 65, 1000])
def test_a_permutation_shows_every_number_once(size: int) -> None:
    assert keyed.permuted(5, torch.arange(size), size).sort().values.tolist() == list(range(size))


def test_permutations_are_stateless_and_differ_by_key() -> None:
    whole = keyed.permuted(5, torch.arange(100), 100)
    assert torch.equal(whole[37:41], keyed.permuted(5, torch.arange(37, 41), 100))
    assert not torch.equal(whole, keyed.permuted(6, torch.arange(100), 100))


def test_integers_and_choices_are_even() -> None:
    drawn = keyed.integers(keys(30_000), 2, 5)
    assert np.bincount(drawn.numpy(), minlength=5)[2:].min() > 9_700
    chosen = keyed.choice(keys(30_000), [15.0, 25.0, 50.0])
    assert {float(value) for value in chosen.unique()} == {15.0, 25.0, 50.0}
