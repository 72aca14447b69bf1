"""One step of training: losses, weights, one update. Knows no strategy by name.

Shapes: K stage rows, M rows that enter the loss (stage rows first, then protecting rows), P parameters, N samples.
Two ways to the same update, chosen by what the parts need: one joint backward of sum c_k l_k, or one gradient a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.gradients.coupling import refuse_coupling_over_ranks
from cmtl_ir.gradients.rows import RowGradients, sum_gradients
from cmtl_ir.strategy.data import Batch, Row, StepContext
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.samples import Drawn

TIERS = ("losses", "gramian", "rows")
Piece = tuple[int, int, int]
"""(row, start, stop): samples start .. stop of a row."""


class NonFinite(Exception):
    """A loss or gradient became NaN or infinite; holds the names of the rows."""

    def __init__(self, rows: list[str]) -> None:
        super().__init__(f"rows {', '.join(rows)}")
        self.rows = rows


@dataclass
class StepResult:
    """What a step leaves for logging; tensors stay on their device until the logging interval ends."""

    rows: list[str]
    losses: Tensor  # [rows] float64
    weights: Tensor  # [K] of the weighting, as used
    surgery: Tensor | None = None  # [M] times M: 1 is neutral
    pieces: list[tuple[int, int]] = field(default_factory=list)  # (row, samples) of each gradient below
    gramian: Tensor | None = None  # [pieces, pieces] float64, raw mean gradients
    displacement: Tensor | None = None  # [pieces] float64: <last step's weight change, gradient>
    blocks: dict[str, Tensor] = field(default_factory=dict)  # the gramian of some parameters only, by the block's name


def coefficients(drawn: Drawn, weights: Tensor) -> Tensor:
    """c [M]: (N_stage / N) w_k / K for stage rows, lambda n_r / N for protecting rows; weights [K].

    N of a pooled row is the samples of its kind.
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


class Stepper:
    """Makes the updates of one stage."""

    def __init__(self, learner: Learner, rows: Sequence[Row], engine: RowGradients | None) -> None:
        self.learner, self.engine = learner, engine
        self.strategy = learner.strategy
        self.tier = tier_of(learner, rows)
        self.ranks = learner.ranks
        if self.ranks.count > 1:
            refuse_coupling_over_ranks(learner.model)
        self.blocks, self.shared = _columns_asked_for(learner, self.tier, engine)

    def update(self, drawn: Drawn, context: StepContext, look: bool = False) -> StepResult:
        """Leave the step's gradient in `.grad`; `look`: log the row gradients, in halves, on the way."""
        if not drawn.rows:
            return StepResult([], torch.empty(0), torch.empty(0))
        if self.tier == "losses" and not look and self.learner.training.micro_batch is None:
            return self._joint(drawn, context)
        return self._by_row(drawn, context, look)

    def row_losses(self, output: Output, drawn: Drawn, row: int, start: int, stop: int) -> Tensor:
        """[stop - start] losses of samples start .. stop of a row."""
        first = drawn.windows[row][0]
        batch = _part(drawn.batches[row], start - first, stop - first)
        return (drawn.rows[row].loss or self.learner.sample_losses)(output, batch)

    def _seen(self, drawn: Drawn, pieces: Sequence[Piece], held: Sequence[Tensor]) -> Tensor:
        """Mean losses [pieces] over all ranks, from those of the samples held here; the parts that observe see each."""
        means = []
        for (row, start, stop), losses in zip(pieces, self._of_all_ranks(drawn, pieces, held), strict=True):
            name, own = drawn.rows[row].name, drawn.batches[row]
            batch = _part(own, start, stop) if self.ranks.count == 1 else replace(own, ids=drawn.ids[row][start:stop])
            self.strategy.curriculum.observe(batch, name, losses)
            if self.strategy.retention is not None:
                self.strategy.retention.observe(batch, name, losses)
            means.append(losses.mean())
        return torch.stack(means)

    def _of_all_ranks(self, drawn: Drawn, pieces: Sequence[Piece], held: Sequence[Tensor]) -> list[Tensor]:
        """Of each piece the losses of all its samples."""
        if self.ranks.count == 1:
            return list(held)
        whole = [losses.new_zeros(stop - start) for (_, start, stop), losses in zip(pieces, held, strict=True)]
        for full, losses, (_, start, _), own in zip(whole, held, pieces, _held(drawn, pieces), strict=True):
            full[own[0] - start : own[1] - start] = losses
        return list(self.ranks.sum(torch.cat(whole)).split([len(one) for one in whole]))

    def _joint(self, drawn: Drawn, context: StepContext) -> StepResult:
        held = self._joint_losses(self.learner.forward(drawn.degraded, drawn.task_numbers), drawn)
        losses = torch.stack([share_of_mean(one, n) for one, n in zip(held, drawn.counts, strict=True)])  # [M]
        pieces = _pieces(drawn.counts, halves=False)
        values = self._seen(drawn, pieces, [one.detach() for one in held]).double()
        own = narrowed(context, range(drawn.stage_rows))
        weights = self.strategy.weighting.scaled(values[: drawn.stage_rows], None, own)
        torch.dot(coefficients(drawn, weights).float(), losses).backward()
        sum_gradients(self.learner.trained_parameters(), self.ranks)
        return StepResult([row.name for row in drawn.rows], values, weights)

    def _joint_losses(self, output: Output, drawn: Drawn) -> list[Tensor]:
        """Per-sample losses of each row; where all rows have the run's loss, from one call over the whole batch."""
        counts = [stop - start for start, stop in drawn.windows]
        if all(row.loss is None for row in drawn.rows):
            return list(self.learner.sample_losses(output, drawn.whole()).split(counts))
        starts = [sum(counts[:row]) for row in range(len(drawn.rows))]
        return [
            self.row_losses(output.part(start, start + count), drawn, row, *drawn.windows[row])
            if count
            else drawn.degraded.new_zeros(0)
            for row, (start, count) in enumerate(zip(starts, counts, strict=True))
        ]

    def _by_row(self, drawn: Drawn, context: StepContext, look: bool) -> StepResult:
        assert self.engine is not None
        pieces = _pieces(drawn.counts, halves=look)
        gradients, piece_losses = self._piece_gradients(drawn, pieces)
        gathering = _gathering(pieces, drawn.counts)  # [rows, pieces]
        losses = gathering @ piece_losses.double().cpu()
        gramian = self.engine.gramian(gradients, self.shared)
        displacement = self._displacement(gradients) if look else None
        result = self._combine(drawn, context, gradients, gathering, losses, gathering @ gramian @ gathering.T)
        if look:
            result.pieces = [(row, stop - start) for row, start, stop in pieces]
            result.gramian = gramian if self.shared is None else self.engine.gramian(gradients)
            result.displacement = displacement
            result.blocks = {name: self.engine.gramian(gradients, own) for name, own in self.blocks.items()}
        return result

    def _piece_gradients(self, drawn: Drawn, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor]:
        """Mean gradients [pieces, P] and mean losses [pieces] of all samples; computed are those held here."""
        assert self.engine is not None
        windows = _held(drawn, pieces)
        here = [number for number, (start, stop) in enumerate(windows) if stop > start]
        losses = [drawn.degraded.new_zeros(0) for _ in pieces]

        def forward(start: int, stop: int) -> Output:
            return self.learner.forward(drawn.degraded[start:stop], drawn.task_numbers[start:stop])

        def mean_loss(output: Output, number: int) -> Tensor:
            piece = here[number]
            found = self.row_losses(output, drawn, pieces[piece][0], *windows[piece])
            losses[piece] = found.detach()
            return found.mean()

        gradients, _ = self.engine(forward, [windows[piece][1] - windows[piece][0] for piece in here], mean_loss)
        if self.ranks.count > 1:
            shares = [len(losses[piece]) / (pieces[piece][2] - pieces[piece][1]) for piece in here]
            gradients = self.engine.of_all_ranks(gradients, here, shares, len(pieces), self.ranks)
        return gradients, self._seen(drawn, pieces, losses)

    def _displacement(self, gradients: Tensor) -> Tensor | None:
        """[pieces]: what the last step did to each piece's loss, to first order."""
        if self.engine is None or self.learner.before is None:
            return None
        if len(self.learner.before) != len(self.engine.parameters):  # a stage began that trains other parameters
            return None
        moved = torch._foreach_sub(self.learner.copy_of_weights(), self.learner.before)
        return (gradients @ self.engine.flattened(moved)).double().cpu()

    def _combine(
        self, drawn: Drawn, context: StepContext, gradients: Tensor, gathering: Tensor, losses: Tensor, gramian: Tensor
    ) -> StepResult:
        assert self.engine is not None
        refuse_non_finite(drawn, losses, gramian)
        stage, entering = drawn.stage_rows, drawn.entering
        own = narrowed(context, range(stage))
        weights = self.strategy.weighting.scaled(losses[:stage], gramian[:stage, :stage], own)
        c = coefficients(drawn, weights)
        live = torch.nonzero(c != 0).flatten()
        scale = len(live) * c[live]  # M c_k: the rows that surgery sees are scale * g
        v = torch.full((len(live),), 1.0 / len(live), dtype=torch.float64)
        update = None
        if self.strategy.surgery is not None:
            entered = narrowed(context, live.tolist())
            v = self.strategy.surgery.weights(gramian[live][:, live] * scale[:, None] * scale, losses[live], entered)
            if self.strategy.surgery.needs == "rows":
                rows = ((scale[:, None] * gathering[live]).to(gradients)) @ gradients
                update = self.strategy.surgery.combine(rows, v, entered)
        if update is None:
            update = self.engine.combined((v * scale) @ gathering[live], gradients)
        if self.strategy.retention is not None and entering < len(drawn.rows):
            memory = gathering[entering:].to(gradients) @ gradients
            projected = narrowed(context, range(entering, len(drawn.rows)))
            update = self.strategy.retention.project(update, memory, projected)
        self.engine.write_update(update)
        return StepResult([row.name for row in drawn.rows], losses, weights, v * len(live))


def tier_of(learner: Learner, rows: Sequence[Row]) -> str:
    """The least tier that serves the parts in a stage of these rows."""
    needs = [getattr(part, "needs", "losses") for family, part in learner.parts().items() if family != "retention"]
    return max([*needs, "gramian" if any(row.projected for row in rows) else "losses"], key=TIERS.index)


def _columns_asked_for(
    learner: Learner, tier: str, engine: RowGradients | None
) -> tuple[dict[str, list[slice]], list[slice] | None]:
    """Columns of the blocks whose conflict is logged, and of the parameters that rows are compared on; None: all."""
    patterns = learner.training.shared
    if patterns is not None and tier == "rows":
        raise UserError("training.shared: a surgery that works on the rows themselves takes them whole")
    if engine is None:
        return {}, None
    blocks = {name: engine.columns(own, f"conflict.blocks.{name}") for name, own in learner.blocks.items()}
    return blocks, None if patterns is None else engine.columns(patterns, "training.shared")


def narrowed(context: StepContext, kept: Sequence[int]) -> StepContext:
    """The context of some of the rows only."""
    return replace(context, rows=tuple(context.rows[i] for i in kept), counts=tuple(context.counts[i] for i in kept))


def refuse_non_finite(drawn: Drawn, losses: Tensor, gramian: Tensor) -> None:
    """Raise NonFinite naming the rows whose loss or gradient is NaN or infinite."""
    fine = torch.isfinite(losses) & torch.isfinite(gramian.diagonal())
    if not bool(fine.all()):
        raise NonFinite([row.name for row, good in zip(drawn.rows, fine.tolist(), strict=True) if not good])


def share_of_mean(losses: Tensor, count: int) -> Tensor:
    """What these losses add to the mean of `count`: their mean, when they are all of them."""
    return losses.mean() if len(losses) == count else losses.sum() / count


def _held(drawn: Drawn, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """(start, stop) within the row of what this process holds of each piece."""
    own = [drawn.windows[row] for row, _, _ in pieces]
    return [(max(a, start), max(a, start, min(b, stop))) for (_, start, stop), (a, b) in zip(pieces, own, strict=True)]


def _pieces(counts: Sequence[int], halves: bool) -> list[Piece]:
    """Whole rows, or two halves of each row that has two samples."""
    cut = [(row, n // 2 if halves else 0, n) for row, n in enumerate(counts)]
    return [(row, a, b) for row, middle, n in cut for a, b in ((0, middle), (middle, n)) if b > a]


def _gathering(pieces: Sequence[Piece], counts: Sequence[int]) -> Tensor:
    """[rows, pieces] float64: a row's mean gradient from its pieces' mean gradients."""
    gathering = torch.zeros(len(counts), len(pieces), dtype=torch.float64)
    for piece, (row, start, stop) in enumerate(pieces):
        gathering[row, piece] = (stop - start) / counts[row]
    return gathering


def _part(batch: Batch, start: int, stop: int) -> Batch:
    if start == 0 and stop == len(batch.ids):
        return batch
    return Batch(batch.task, batch.ids[start:stop], batch.degraded[start:stop], batch.clean[start:stop])
