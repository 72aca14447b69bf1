"""One step of training: losses, weights, one update. It knows no strategy by name.

Shapes: K stage rows, M rows that enter the loss (stage rows first, then protecting rows), P parameters, N samples.
The update comes from one joint backward pass of sum c_k l_k, or from one gradient per row if the parts need them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cmtl_ir.gradients.coupling import refuse_coupling_over_ranks
from cmtl_ir.gradients.rows import RowGradients, sum_gradients
from cmtl_ir.strategy.data import Row, StepContext
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.aux_ratio import AuxRatio
from cmtl_ir.training.auxiliaries import Auxiliaries
from cmtl_ir.training.composition import coefficients, columns_asked_for, narrowed, tier_of
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.pieces import Piece, PieceLosses, cut, gathering, of_all_ranks, part_of, share_of_mean
from cmtl_ir.training.samples import Samples


class NonFinite(Exception):
    """Raised if a loss or gradient is NaN or infinite. `rows` holds the names of the rows."""

    def __init__(self, rows: list[str]) -> None:
        super().__init__(f"rows {', '.join(rows)}")
        self.rows = rows


@dataclass
class StepResult:
    """Values of a step to be logged. Tensors stay on their device until the logging interval ends."""

    rows: list[str]
    losses: Tensor  # [rows] float64, without auxiliary objectives
    weights: Tensor  # [K] of the weighting, as used
    surgery: Tensor | None = None  # [M] times M: 1 is neutral
    pieces: list[tuple[int, int]] = field(default_factory=list)  # (row, samples) of each gradient below
    gramian: Tensor | None = None  # [pieces, pieces] float64, raw mean gradients
    displacement: Tensor | None = None  # [pieces] float64: <last step's weight change, gradient>
    blocks: dict[str, Tensor] = field(default_factory=dict)  # gramians of some parameters only, by block name
    aux_ratio: dict[str, float] = field(default_factory=dict)  # name of the metric -> w |dA_k| / |g_k|


class Stepper:
    """Computes the updates of one stage."""

    def __init__(self, learner: Learner, rows: Sequence[Row], engine: RowGradients | None) -> None:
        self.learner, self.engine = learner, engine
        self.strategy = learner.strategy
        self.auxiliaries = Auxiliaries(learner)
        self.aux_ratio = AuxRatio(learner, self.auxiliaries)
        self.tier = tier_of(learner, rows)
        self.ranks = learner.ranks
        if self.ranks.count > 1:
            refuse_coupling_over_ranks(learner.model)
        self.blocks, self.shared = columns_asked_for(learner, self.tier, engine)

    def update(self, drawn: Samples, context: StepContext, look: bool = False) -> StepResult:
        """Write the gradient of the step to `.grad`. With `look`, also return measures of the rows' half gradients."""
        if not drawn.rows:
            return StepResult([], torch.empty(0), torch.empty(0))
        self.auxiliaries.prepare(drawn, context)
        if self.tier == "losses" and not look and self.learner.training.micro_batch is None:
            return self._joint(drawn, context)
        return self._by_row(drawn, context, look)

    # ------------------------------------------------------------------------------------------- losses of samples

    def _losses(self, output: Output, drawn: Samples, row: int, window: tuple[int, int]) -> PieceLosses:
        """Return the losses of a window (start, stop) of the samples of a row held by this process."""
        own, batch = drawn.rows[row], part_of(drawn.batches[row], *window)
        losses = (own.loss or self.learner.sample_losses)(output, batch)
        return PieceLosses(losses, self.auxiliaries.total(losses, output, own, batch, window))

    def _joint_losses(self, output: Output, drawn: Samples) -> list[PieceLosses]:
        """Return the losses of each row. They come from one call if all rows have the base objective."""
        counts = [stop - start for start, stop in drawn.windows]
        if any(row.loss is not None for row in drawn.rows):
            starts, nothing = [sum(counts[:row]) for row in range(len(counts))], drawn.degraded.new_zeros(0)
            return [
                self._losses(output.part(start, start + count), drawn, row, (0, count))
                if count
                else PieceLosses(nothing, nothing)
                for row, (start, count) in enumerate(zip(starts, counts, strict=True))
            ]
        losses = self.learner.sample_losses(output, drawn.whole()).split(counts)
        if not self.auxiliaries.weights:
            return [PieceLosses(one, one) for one in losses]
        rows = zip(losses, output.split(counts), drawn.rows, drawn.batches, counts, strict=True)
        return [
            PieceLosses(own, self.auxiliaries.total(own, part, row, batch, (0, count)))
            for own, part, row, batch, count in rows
        ]

    def _seen(self, drawn: Samples, pieces: Sequence[Piece], held: Sequence[PieceLosses]) -> tuple[Tensor, Tensor]:
        """Return mean losses [pieces] over all ranks, for reports and for the weighting. Parts observe the losses.

        Reports have the restoration losses. The weighting sees the sums of all objectives if `weighting_sees` is total.
        """
        means = []
        everywhere = of_all_ranks(pieces, [one.restoration for one in held], self.ranks)
        for piece, losses in zip(pieces, everywhere, strict=True):
            name, own = drawn.rows[piece.row].name, drawn.batches[piece.row]
            alone, ids = self.ranks.count == 1, drawn.ids[piece.row][piece.start : piece.stop]
            batch = part_of(own, piece.start, piece.stop) if alone else replace(own, ids=ids)
            self.strategy.curriculum.observe(batch, name, losses)
            if self.strategy.retention is not None:
                self.strategy.retention.observe(batch, name, losses)
            means.append(losses.mean())
        seen = torch.stack(means)
        if not self.auxiliaries.weighed:
            return seen, seen
        totals = of_all_ranks(pieces, [one.total for one in held], self.ranks)
        return seen, torch.stack([losses.mean() for losses in totals])

    def _weights(self, losses: Tensor, gramian: Tensor | None, context: StepContext) -> Tensor:
        """Return the weights [K] of the stage rows for their losses [K]; 1 in a stage that is not weighed."""
        assert self.learner.stage is not None
        if not self.learner.stage.weighed:
            return torch.ones_like(losses)
        return self.strategy.weighting.scaled(losses, gramian, narrowed(context, range(len(losses))))

    def _output(self, drawn: Samples, start: int, stop: int) -> Output:
        """Return the output for samples start .. stop of those held here."""
        inputs = drawn.degraded[start:stop], drawn.task_numbers[start:stop]
        if "pair" not in self.learner.objective.needs:
            return self.learner.forward(*inputs)
        return self.learner.forward(*inputs, None, **drawn.pair(start, stop, self.learner.seed))

    # --------------------------------------------------------------------------------------- one joint backward pass

    def _joint(self, drawn: Samples, context: StepContext) -> StepResult:
        held = self._joint_losses(self._output(drawn, 0, len(drawn.degraded)), drawn)
        losses = torch.stack([share_of_mean(one.total, n) for one, n in zip(held, drawn.counts, strict=True)])  # [M]
        seen, weighed = self._seen(drawn, cut(drawn, halves=False), [one.detached() for one in held])
        weights = self._weights(weighed.double()[: drawn.stage_rows], None, context)
        torch.dot(coefficients(drawn, weights).float(), losses).backward()
        sum_gradients(self.learner.trained_parameters(), self.ranks)
        return StepResult([row.name for row in drawn.rows], seen.double(), weights)

    # ------------------------------------------------------------------------------------------- one gradient per row

    def _by_row(self, drawn: Samples, context: StepContext, look: bool) -> StepResult:
        assert self.engine is not None
        pieces = cut(drawn, halves=look)
        gradients, held = self._piece_gradients(drawn, pieces)
        seen, weighed = (one.double().cpu() for one in self._seen(drawn, pieces, held))
        rows = gathering(pieces, drawn.counts)  # [rows, pieces]
        gramian = self.engine.gramian(gradients, self.shared)
        displacement = self._displacement(gradients) if look else None
        ratios = self.aux_ratio(drawn, gradients, rows, self.engine) if look else {}
        of_rows = rows @ gramian @ rows.T
        refuse_non_finite(drawn, rows @ seen, rows @ weighed, of_rows)
        result = self._combine(drawn, context, gradients, rows, rows @ weighed, of_rows)
        result.losses = rows @ seen
        if look:
            result.pieces = [(piece.row, piece.size) for piece in pieces]
            result.gramian = gramian if self.shared is None else self.engine.gramian(gradients)
            result.displacement, result.aux_ratio = displacement, ratios
            result.blocks = {name: self.engine.gramian(gradients, own) for name, own in self.blocks.items()}
        return result

    def _piece_gradients(self, drawn: Samples, pieces: Sequence[Piece]) -> tuple[Tensor, list[PieceLosses]]:
        """Return mean gradients [pieces, P] of all samples, and the losses of the samples held by this process."""
        assert self.engine is not None
        here = [number for number, piece in enumerate(pieces) if piece.held]
        nothing = drawn.degraded.new_zeros(0)
        losses = [PieceLosses(nothing, nothing) for _ in pieces]

        def forward(start: int, stop: int) -> Output:
            return self._output(drawn, start, stop)

        def mean_loss(output: Output, number: int) -> Tensor:
            piece = pieces[here[number]]
            begin = drawn.windows[piece.row][0]
            found = self._losses(output, drawn, piece.row, (piece.first - begin, piece.last - begin))
            losses[here[number]] = found.detached()
            return found.total.mean()

        gradients, _ = self.engine(forward, [pieces[number].held for number in here], mean_loss)
        if self.ranks.count > 1:
            shares = [pieces[number].held / pieces[number].size for number in here]
            gradients = self.engine.of_all_ranks(gradients, here, shares, len(pieces), self.ranks)
        return gradients, losses

    def _displacement(self, gradients: Tensor) -> Tensor | None:
        """Return the first-order change of each piece's loss by the last step, [pieces]. `None` if it is not known."""
        if self.engine is None or self.learner.before is None:
            return None
        if len(self.learner.before) != len(
            self.engine.parameters
        ):  # the last step was of a stage that trains other parameters
            return None
        moved = torch._foreach_sub(self.learner.copy_of_weights(), self.learner.before)
        return (gradients @ self.engine.flattened(moved)).double().cpu()

    def _combine(
        self, drawn: Samples, context: StepContext, gradients: Tensor, rows: Tensor, losses: Tensor, gramian: Tensor
    ) -> StepResult:
        """Weigh the rows, combine them, project the update and write it to `.grad`."""
        assert self.engine is not None
        stage, entering = drawn.stage_rows, drawn.entering
        weights = self._weights(losses[:stage], gramian[:stage, :stage], context)
        c = coefficients(drawn, weights)
        live = torch.nonzero(c != 0).flatten()
        scale = len(live) * c[live]  # M c_k: the rows that surgery sees are scale * g
        v = torch.full((len(live),), 1.0 / len(live), dtype=torch.float64)
        update = None
        if self.strategy.surgery is not None:
            entered = narrowed(context, live.tolist())
            v = self.strategy.surgery.weights(gramian[live][:, live] * scale[:, None] * scale, losses[live], entered)
            if self.strategy.surgery.needs == "rows":
                scaled = ((scale[:, None] * rows[live]).to(gradients)) @ gradients
                update = self.strategy.surgery.combine(scaled, v, entered)
        if update is None:
            update = self.engine.combined((v * scale) @ rows[live], gradients)
        if self.strategy.retention is not None and entering < len(drawn.rows):
            memory = rows[entering:].to(gradients) @ gradients
            projected = narrowed(context, range(entering, len(drawn.rows)))
            update = self.strategy.retention.project(update, memory, projected)
        self.engine.write_update(update)
        return StepResult([row.name for row in drawn.rows], losses, weights, v * len(live))


def refuse_non_finite(drawn: Samples, losses: Tensor, weighed: Tensor, gramian: Tensor) -> None:
    """Raise NonFinite naming the rows whose loss or gradient is NaN or infinite."""
    fine = torch.isfinite(losses) & torch.isfinite(weighed) & torch.isfinite(gramian.diagonal())
    if not bool(fine.all()):
        raise NonFinite([row.name for row, good in zip(drawn.rows, fine.tolist(), strict=True) if not good])
