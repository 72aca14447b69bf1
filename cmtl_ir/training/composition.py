"""Composition of the parts of a strategy in one step. Shapes: K stage rows, M rows that enter the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.gradients.rows import RowGradients
from cmtl_ir.strategy.data import Row, StepContext
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.samples import Samples

TIERS = ("losses", "gramian", "rows")


def coefficients(drawn: Samples, weights: Tensor) -> Tensor:
    """Return c [M]: (N_stage / N) w_k / K for stage rows, and lambda n_r / N for protecting rows. `weights` is [K].

    For a pooled row, N is the number of samples of its kind.
    """
    stage, entering = drawn.stage_rows, drawn.entering
    total, own = sum(drawn.counts[:entering]), sum(drawn.counts[:stage])
    kinds: dict[str, int] = {}
    for row, count in zip(drawn.rows, drawn.counts, strict=True):
        kinds[row.kind] = kinds.get(row.kind, 0) + count
    guards = [
        (row.coefficient or 0.0) * count / (kinds[row.kind] if row.pooled else total)
        for row, count in zip(drawn.rows[stage:entering], drawn.counts[stage:entering], strict=True)
    ]
    return torch.cat([weights * (own / total / max(stage, 1)), weights.new_tensor(guards)])


def tier_of(learner: Learner, rows: Sequence[Row]) -> str:
    """Return the cheapest tier that provides what the parts need in a stage with these rows."""
    strategy = learner.strategy
    needs = [strategy.weighting.needs, "gramian" if any(row.projected for row in rows) else "losses"]
    if strategy.surgery is not None:
        needs.append(strategy.surgery.needs)
    return max(needs, key=TIERS.index)


def columns_asked_for(
    learner: Learner, tier: str, engine: RowGradients | None
) -> tuple[dict[str, list[slice]], list[slice] | None]:
    """Return the columns of the blocks whose conflict is logged, and of the parameters on which rows are compared.

    The latter are `None` if rows are compared on all parameters. Raise UserError if `training.shared` is set but the
    surgery works on whole rows.
    """
    patterns = learner.training.shared
    if patterns is not None and tier == "rows":
        raise UserError("training.shared: a surgery that works on the rows themselves needs whole rows")
    if engine is None:
        return {}, None
    blocks = {name: engine.columns(own, f"conflict.blocks.{name}") for name, own in learner.blocks.items()}
    return blocks, None if patterns is None else engine.columns(patterns, "training.shared")


def narrowed(context: StepContext, kept: Sequence[int]) -> StepContext:
    """Return the context restricted to some of the rows."""
    return replace(context, rows=tuple(context.rows[i] for i in kept), counts=tuple(context.counts[i] for i in kept))
