"""What is claimed of a surgery, as asserts on one matrix J [K, P]. Tolerances are shares of `size_of`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.testing import assert_close

from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Surgery

from .families import NAMES

Make = Callable[[], Surgery]


def at_step(step: int = 0, names: Sequence[str] = NAMES) -> StepContext:
    """The context of a step with rows of these names."""
    return StepContext(step=step, stage="1", rows=tuple(names), counts=(1,) * len(names), seed=0)


def apply(surgery: Surgery, rows: Tensor, step: int = 0, names: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
    """(v [K], update [P]) of rows [K, P], as the engine makes them; losses differ, and hang on the names."""
    context = at_step(step, NAMES[: len(rows)] if names is None else names)
    losses = 0.1 * torch.tensor([1.0 + NAMES.index(name) for name in context.rows], dtype=torch.float64).sqrt()
    v = surgery.weights(rows.double() @ rows.double().T, losses, context)
    return v, surgery.combine(rows.clone(), v, context)


def assert_near(update: Tensor, expected: Tensor, size: float, share: float = 1e-9) -> None:
    """Two updates agree up to a share of `size`."""
    assert float((update - expected).norm()) <= share * size, (update, expected)


def size_of(rows: Tensor, v: Tensor) -> float:
    """sum_k |v_k| ||r_k||, at least the mean ||r_k||: what rounding errors of an update are measured against."""
    return float(torch.maximum(v.abs(), torch.full_like(v, 1 / len(v))) @ rows.norm(dim=1))


def assert_structure(make: Make, rows: Tensor) -> None:
    """Weights are finite float64 numbers, one a row; the update is finite, one number a parameter."""
    v, update = apply(make(), rows)
    assert v.shape == rows.shape[:1] and v.dtype == torch.float64 and update.shape == rows.shape[1:]
    assert torch.isfinite(v).all() and torch.isfinite(update).all()


def assert_scale_equivariant(make: Make, rows: Tensor, scale: float) -> None:
    """Rows times c give the update times c."""
    v, update = apply(make(), rows)
    _, scaled = apply(make(), rows * scale)
    assert_near(scaled / scale, update, size_of(rows, v))


def assert_mean_of_zeros(make: Make, rows: Tensor) -> None:
    """A Gramian of zeros leaves the mean."""
    v, update = apply(make(), rows)
    assert_close(v, torch.full_like(v, 1 / len(v)))
    assert_close(update, torch.zeros_like(update))


def assert_mean_of_equals(make: Make, rows: Tensor) -> None:
    """K equal rows give their mean, that is, the row."""
    assert_close(apply(make(), rows)[1], rows[0])


def assert_equivariant_to_order(make: Make, rows: Tensor, by_weights: bool) -> None:
    """What a row does depends on its name, not on its position; five steps, so that state takes part."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1)).tolist()
    one, other = make(), make()
    for step in range(5):
        turned = rows.roll(step, dims=1) * torch.where(torch.arange(rows.shape[1]) % (step + 2) == 0, -1.0, 1.0)
        v, update = apply(one, turned, step)
        w, permuted = apply(other, turned[order], step, [NAMES[i] for i in order])
        assert_near(permuted, update, size_of(turned, v))
        if by_weights:
            assert_close(w, v[order])


def assert_non_conflicting(make: Make, rows: Tensor, margin: float = 0.0) -> None:
    """No row rises: <r_k, d> >= margin ||d||^2, up to rounding of the Gramian; not claimed where a guard fired."""
    surgery = make()
    v, update = apply(surgery, rows)
    if surgery.state.get("guarded"):
        return
    slack = (rows @ update - margin * update @ update) / rows.norm(dim=1).clamp(min=1e-300)
    assert float(slack.min()) >= -1e-12 * size_of(rows, v), slack
