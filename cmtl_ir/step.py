"""One step of training: draw rows, losses, weights, one update. Knows no strategy by name.

Shapes: K stage rows, M rows that enter the loss (stage rows first, then protecting rows), P parameters, N samples.
Two ways to the same update, chosen by what the parts need: one joint backward of sum c_k l_k, or one gradient a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.gradients import RowGradients
from cmtl_ir.learner import Learner
from cmtl_ir.optimization import sample_losses
from cmtl_ir.strategy import Batch, Row, StepContext

TIERS = ("losses", "gramian", "rows")


class NonFinite(Exception):
    """A loss or gradient became NaN or infinite; holds the names of the rows."""

    def __init__(self, rows: list[str]) -> None:
        super().__init__(f"rows {', '.join(rows)}")
        self.rows = rows


@dataclass(frozen=True)
class Drawn:
    """The samples of one step, row after row."""

    rows: list[Row]  # present ones: loss rows first (stage, then protecting), projected rows last
    batches: list[Batch]
    counts: list[int]
    degraded: Tensor  # [N, 3, H, W]
    task_numbers: Tensor  # [N]

    @property
    def entering(self) -> int:
        """M: how many rows enter the loss."""
        return sum(not row.projected for row in self.rows)

    @property
    def stage_rows(self) -> int:
        """K: how many of them the weighting weighs."""
        return sum(row.coefficient is None for row in self.rows)


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


def draw(learner: Learner, rows: Sequence[Row], counts: Sequence[int]) -> Drawn:
    """Draw `counts` samples of `rows`; rows without samples are left out."""
    order = sorted(range(len(rows)), key=lambda i: rows[i].projected)
    present = [(rows[i], counts[i]) for i in order if counts[i] > 0]
    batches = [_batch_of(learner, row, count) for row, count in present]
    numbers = [learner.task_numbers(row.task, count) for row, count in present]
    kept = [row for row, _ in present]
    if not kept:
        return Drawn([], [], [], torch.empty(0), torch.empty(0))
    degraded = torch.cat([batch.degraded for batch in batches])
    return Drawn(kept, batches, [count for _, count in present], degraded, torch.cat(numbers))


def _batch_of(learner: Learner, row: Row, count: int) -> Batch:
    batch = learner.batch(row.task, learner.data.draw(row, count, learner.seed), row.images)
    return batch if row.view is None else row.view(batch)


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

    def update(self, drawn: Drawn, context: StepContext, look: bool = False) -> StepResult:
        """Leave the step's gradient in `.grad`; `look`: log the row gradients, in halves, on the way."""
        if not drawn.rows:
            return StepResult([], torch.empty(0), torch.empty(0))
        if self.tier == "losses" and not look:
            return self._joint(drawn, context)
        return self._by_row(drawn, context, look)

    def row_losses(self, restored: Any, drawn: Drawn, row: int, start: int, stop: int) -> Tensor:
        """[stop - start] losses of samples start .. stop of a row, reported to the parts that observe."""
        batch = _part(drawn.batches[row], start, stop)
        losses = (drawn.rows[row].loss or self.learner.sample_losses)(restored, batch)
        self._observed(drawn, row, batch, losses)
        return losses

    def _observed(self, drawn: Drawn, row: int, batch: Batch, losses: Tensor) -> None:
        self.strategy.curriculum.observe(batch, drawn.rows[row].name, losses.detach())
        if self.strategy.retention is not None:
            self.strategy.retention.observe(batch, drawn.rows[row].name, losses.detach())

    def _joint(self, drawn: Drawn, context: StepContext) -> StepResult:
        restored = self.learner.forward(drawn.degraded, drawn.task_numbers)
        losses = torch.stack([one.mean() for one in self._joint_losses(restored, drawn)])  # [M]
        values = losses.detach().double()
        own = narrowed(context, range(drawn.stage_rows))
        weights = self.strategy.weighting.scaled(values[: drawn.stage_rows], None, own)
        torch.dot(coefficients(drawn, weights).float(), losses).backward()
        return StepResult([row.name for row in drawn.rows], values, weights)

    def _joint_losses(self, restored: Any, drawn: Drawn) -> list[Tensor]:
        """Per-sample losses of each row; where all rows have the run's loss, from one call over the whole batch."""
        if all(row.loss is None for row in drawn.rows):
            clean = torch.cat([batch.clean for batch in drawn.batches])
            split = list(sample_losses(self.learner.training.loss, restored, clean).split(drawn.counts))
            for row, losses in enumerate(split):
                self._observed(drawn, row, drawn.batches[row], losses)
            return split
        starts = [sum(drawn.counts[:row]) for row in range(len(drawn.rows))]
        return [
            self.row_losses(_slice(restored, start, start + count), drawn, row, 0, count)
            for row, (start, count) in enumerate(zip(starts, drawn.counts, strict=True))
        ]

    def _by_row(self, drawn: Drawn, context: StepContext, look: bool) -> StepResult:
        assert self.engine is not None
        pieces = _pieces(drawn.counts, halves=look)
        starts = [0]
        for _, start, stop in pieces:
            starts.append(starts[-1] + stop - start)

        def forward(start: int, stop: int) -> Any:
            return self.learner.forward(drawn.degraded[start:stop], drawn.task_numbers[start:stop])

        def mean_loss(restored: Any, piece: int) -> Tensor:
            return self.row_losses(restored, drawn, *pieces[piece]).mean()

        gradients, piece_losses = self.engine(forward, [stop - start for _, start, stop in pieces], mean_loss)
        gathering = _gathering(pieces, drawn.counts)  # [rows, pieces]
        losses = gathering @ torch.stack([loss.detach() for loss in piece_losses]).double().cpu()
        gramian = self.engine.gramian(gradients)
        displacement = self._displacement(gradients) if look else None
        result = self._combine(drawn, context, gradients, gathering, losses, gathering @ gramian @ gathering.T)
        if look:
            result.pieces = [(row, stop - start) for row, start, stop in pieces]
            result.gramian, result.displacement = gramian, displacement
        return result

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
            update = ((v * scale) @ gathering[live]).to(gradients) @ gradients
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


def narrowed(context: StepContext, kept: Sequence[int]) -> StepContext:
    """The context of some of the rows only."""
    return replace(context, rows=tuple(context.rows[i] for i in kept), counts=tuple(context.counts[i] for i in kept))


def refuse_non_finite(drawn: Drawn, losses: Tensor, gramian: Tensor) -> None:
    """Raise NonFinite naming the rows whose loss or gradient is NaN or infinite."""
    fine = torch.isfinite(losses) & torch.isfinite(gramian.diagonal())
    if not bool(fine.all()):
        raise NonFinite([row.name for row, good in zip(drawn.rows, fine.tolist(), strict=True) if not good])


def _pieces(counts: Sequence[int], halves: bool) -> list[tuple[int, int, int]]:
    """(row, start, stop) within the row: whole rows, or two halves of each row that has two samples."""
    cut = [(row, n // 2 if halves else 0, n) for row, n in enumerate(counts)]
    return [(row, a, b) for row, middle, n in cut for a, b in ((0, middle), (middle, n)) if b > a]


def _gathering(pieces: Sequence[tuple[int, int, int]], counts: Sequence[int]) -> Tensor:
    """[rows, pieces] float64: a row's mean gradient from its pieces' mean gradients."""
    gathering = torch.zeros(len(counts), len(pieces), dtype=torch.float64)
    for piece, (row, start, stop) in enumerate(pieces):
        gathering[row, piece] = (stop - start) / counts[row]
    return gathering


def _slice(restored: Any, start: int, stop: int) -> Any:
    if isinstance(restored, list | tuple):
        return [output[start:stop] for output in restored]
    return restored[start:stop]


def _part(batch: Batch, start: int, stop: int) -> Batch:
    if start == 0 and stop == len(batch.ids):
        return batch
    return Batch(batch.task, batch.ids[start:stop], batch.degraded[start:stop], batch.clean[start:stop])
