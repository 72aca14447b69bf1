"""A-GEM and GEM: constraints on the update."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cmtl_ir.strategies.retention.agem import AGEM
from cmtl_ir.strategies.retention.gem import GEM, least_weights
from cmtl_ir.strategy.data import StepContext

from .cases import strategy, trained


def context(*counts: int) -> StepContext:
    return StepContext(0, "two", tuple(f"memory:{n}" for n in range(len(counts))), counts, 0)


def draws(rows: int, size: int, count: int = 50) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(update [P], memory [rows, P]) at random, with norms that differ."""
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        memory = torch.randn(rows, size, generator=generator, dtype=torch.float64)
        memory *= torch.exp(torch.randn(rows, 1, generator=generator, dtype=torch.float64))
        found.append((torch.randn(size, generator=generator, dtype=torch.float64), memory))
    return found


def test_agem_on_two_parameters() -> None:
    # g = (1, 0), g_m = (-1, 1): <g, g_m> = -1, |g_m|^2 = 2, so g + 1/2 g_m = (.5, .5).
    update, memory = torch.tensor([1.0, 0.0]), torch.tensor([[-1.0, 1.0]])
    assert AGEM().project(update, memory, context(3)).tolist() == [0.5, 0.5]
    assert torch.equal(AGEM().project(-update, memory, context(3)), -update)
    assert torch.equal(AGEM().project(update, 0 * memory, context(3)), update)


def test_agem_pools_the_memory_batch_by_samples() -> None:
    update, memory = torch.tensor([1.0, 0.0]), torch.tensor([[-2.0, 1.0], [1.0, 1.0]])
    pooled = (3 * memory[:1] + memory[1:]) / 4
    expected = AGEM().project(update, pooled, context(4))
    torch.testing.assert_close(AGEM().project(update, memory, context(3, 1)), expected)
    assert not torch.allclose(AGEM().project(update, memory, context(2, 2)), expected)


@pytest.mark.parametrize(("rows", "size"), [(1, 3), (2, 3), (4, 6), (5, 200)])
@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_gem_s_update_raises_no_old_task_s_loss_to_first_order(rows: int, size: int, margin: float) -> None:
    for update, memory in draws(rows, size):
        found = GEM(margin=margin).project(update, memory, context(*[1] * rows))
        slack = memory @ found
        assert float((slack / (memory.norm(dim=1) * found.norm() + 1e-300)).min()) > -1e-9
        if (memory @ update >= 0).all():
            assert torch.equal(found, update)


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_gem_s_weights_are_the_same_at_any_scale(scale: float) -> None:
    for update, memory in draws(3, 5, 10):
        both = torch.cat([memory, update[None]])
        products = (both @ both.T).numpy()
        np.testing.assert_allclose(least_weights(scale**2 * products, 0.5), least_weights(products, 0.5), rtol=1e-6)


def test_gem_solves_its_quadratic_programme() -> None:
    for update, memory in draws(3, 8, 20):
        both = torch.cat([memory, update[None]])
        v = torch.from_numpy(least_weights((both @ both.T).numpy(), 0.5))
        slope = memory @ (update + v @ memory)  # gradient of 1/2 v'Gv + v'Mg
        assert (v >= 0.5).all() and (slope > -1e-8).all()
        assert float(((v - 0.5) * slope).abs().max()) < 1e-8  # complementary slackness


@pytest.mark.parametrize("label", ["agem", "gem"])
def test_in_a_run_the_step_s_update_does_not_ascend_its_memory(label: str) -> None:
    seen: list[float] = []
    part_of = {"agem": AGEM, "gem": GEM}[label]
    original = part_of.project

    def noting(self, update, memory, context):
        assert context.rows == ("memory:noise",) or context.rows == ("memory:noise", "memory:rain")
        assert len(context.counts) == len(memory)
        found = original(self, update, memory, context)
        weights = torch.tensor(context.counts, dtype=memory.dtype) / sum(context.counts)
        rows = weights[None] @ memory if label == "agem" else memory
        seen.append(float(((rows @ found) / (rows.norm(dim=1) * found.norm())).min()))
        return found

    part_of.project = noting
    try:
        trained(strategy(label), training={"optimizer": {"lr": 2e-2}})
    finally:
        part_of.project = original
    assert len(seen) == 8 and min(seen) > -1e-5
