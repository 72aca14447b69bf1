"""Logging of a run: the losses of its steps, and the conflict of the row gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from cmtl_ir.base.errors import Diverged, TrainingError
from cmtl_ir.measures.conflict import ConflictLog
from cmtl_ir.runs.watching.watcher import Cadence, RunWatcher, at_stage_end
from cmtl_ir.runs.workspace import Progress
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import CHECKPOINTS
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import NonFinite, StepResult

LOG_EVERY = 10
"""Steps between points of the loss curves. Losses are moved off the device once per interval."""
LOGGED = ("rows", "losses", "weights", "surgery")
"""Fields of a step's result that the log reads."""


class Sink(Protocol):
    """A destination of metrics."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log values by name at a step. The steps of a name are in ascending order."""


class NullSink:
    """A sink that keeps nothing."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Discard the values."""


class LossLog(RunWatcher):
    """Log mean losses, weights and learning rate per interval. Raise Diverged if a loss is not a finite number."""

    def __init__(
        self, learner: Learner, folder: Path, cadence: Cadence, sink: Sink, progress: Progress | None = None
    ) -> None:
        """`folder` is that of the run. Error messages name its last good checkpoint."""
        self.learner, self.folder, self.cadence, self.sink, self.progress = learner, folder, cadence, sink, progress
        self.pending: list[tuple[StepResult, float]] = []
        """Results of the steps since the last interval, with their learning rates."""

    def wants_gradients(self, step: int) -> bool:
        return self.cadence.logs_conflict(step)

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        self.pending.append((result, rate))
        if learner.step % LOG_EVERY == 0 or at_stage_end(learner) or self.cadence.evaluates(learner):
            self.flush()

    def flush(self) -> None:
        """Move the pending interval's losses off the device, check them, and log their means."""
        self.before_save()
        sums: dict[str, list[float]] = {}
        for result, rate in self.pending:
            for name, value in {**_named(result), "lr": rate}.items():
                sums.setdefault(name, []).append(value)
        self.pending = []
        means = {name: math.fsum(values) / len(values) for name, values in sums.items()}
        self.sink.log(self.learner.step, means)
        if self.progress is not None:
            losses = {name.removeprefix("loss/"): v for name, v in means.items() if name.startswith("loss/")}
            self.progress.advanced(self.learner.step, losses)

    def before_save(self) -> None:
        """Raise Diverged if a pending loss is not a finite number."""
        for step, (result, _) in enumerate(self.pending, start=self.learner.step - len(self.pending)):
            if not bool(torch.isfinite(result.losses).all()):
                losses = zip(result.rows, result.losses.tolist(), strict=True)
                raise self.stopped_at(NonFinite([row for row, loss in losses if not math.isfinite(loss)]), step)

    def stopped_at(self, error: NonFinite, step: int) -> TrainingError:
        """Return the error to raise for a loss or gradient that is not a finite number."""
        place = self.folder / CHECKPOINTS
        good = checkpoint.newest_step(place)
        last = f"the last good checkpoint is of step {good}" if good is not None else "no checkpoint was written yet"
        return Diverged(
            f"step {step}: the loss or gradient of {', '.join(error.rows)} is not a finite number; {last} "
            f"({place}). A smaller training.optimizer.lr or training.clip=1.0 usually helps",
            step,
        )

    def state(self) -> dict[str, Any]:
        return {"pending": [_to_tree(*one) for one in self.pending]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.pending = [_from_tree(one) for one in state["pending"]]


class ConflictWatcher(RunWatcher):
    """Log conflict statistics at the steps whose row gradients are known."""

    def __init__(self, sink: Sink) -> None:
        self.sink, self.log = sink, ConflictLog()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        if result.gramian is None:
            return
        step = learner.step - 1
        values = self.log.add(step, result.rows, result.pieces, result.gramian, result.displacement)
        for block, gramian in result.blocks.items():
            values |= self.log.add(step, result.rows, result.pieces, gramian, block=block)
        self.sink.log(step, values | result.aux_ratio)

    def state(self) -> dict[str, Any]:
        return {"conflict": self.log.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.log.load_state(state["conflict"])


def _named(result: StepResult) -> dict[str, float]:
    """Return the metrics of a step by name."""
    named = {f"loss/{_metric(r)}": loss for r, loss in zip(result.rows, result.losses.tolist(), strict=True)}
    named |= {f"weight/{_metric(r)}": w for r, w in zip(result.rows, result.weights.tolist(), strict=False)}
    if result.surgery is not None:
        named |= {f"surgery/{_metric(r)}": v for r, v in zip(result.rows, result.surgery.tolist(), strict=False)}
    return named


def _metric(row: str) -> str:
    return row.replace(":", ".")


def _to_tree(result: StepResult, rate: float) -> dict[str, Any]:
    return {"rate": rate, **{name: getattr(result, name) for name in LOGGED}}


def _from_tree(tree: dict[str, Any]) -> tuple[StepResult, float]:
    return StepResult(**{name: tree[name] for name in LOGGED}), tree["rate"]
