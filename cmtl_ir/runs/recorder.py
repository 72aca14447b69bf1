"""What a run leaves behind as it goes: metrics, curves, checkpoints, and a clean stop when asked."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from cmtl_ir.base.errors import Diverged, Interrupted, Pruned, TrainingError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.measures import curve as curves
from cmtl_ir.measures.conflict import ConflictLog
from cmtl_ir.measures.evaluation import Evaluator
from cmtl_ir.runs.execution import Judge
from cmtl_ir.runs.meter import Meter
from cmtl_ir.runs.workspace import Progress
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import CHECKPOINTS, stage_folder
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import NonFinite, StepResult

LOG_EVERY = 10
"""Steps between points of the loss curves: losses leave the device once an interval."""


class Sink(Protocol):
    """Where metrics go."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Values by name at a step; steps come in order."""


def intervals(experiment: Experiment) -> dict[str, Any]:
    """How often a run is scored, looked at and saved."""
    return {
        "evaluation": experiment.evaluation.every,
        "conflict": experiment.conflict.every,
        "checkpoint": experiment.checkpoint.every,
        "minutes": experiment.checkpoint.minutes,
        "keep": experiment.checkpoint.keep,
    }


class Recorder:
    """The watcher of one run."""

    def __init__(
        self,
        learner: Learner,
        evaluator: Evaluator,
        folder: Path,
        identity: str,
        every: dict[str, Any],
        sink: Sink,
        progress: Progress | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.learner, self.evaluator, self.folder, self.identity = learner, evaluator, folder, identity
        self.every, self.sink, self.progress, self.judge = every, sink, progress, judge
        self.validator = evaluator.validation()
        self.curve: list[dict[str, Any]] = []
        self.scores: list[dict[str, Any]] = []
        self.pending: list[tuple[StepResult, float]] = []
        self.conflict = ConflictLog()
        self.seconds, self._since = 0.0, time.monotonic()
        self.meter = Meter(learner.device)
        self._stop: str | None = None

    # ------------------------------------------------------------------------------------- the watcher's part

    def looks_at(self, step: int) -> bool:
        """True at the steps whose row gradients are logged."""
        return self.every["conflict"] > 0 and step % self.every["conflict"] == 0

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        """The curve marks the ends; steps begin here."""
        self.meter.resume()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """Collect, and log, evaluate or save where it is due."""
        self.meter.pause()
        step = learner.step
        self.pending.append((result, rate))
        if result.gramian is not None:
            self._log_conflict(step - 1, result)
        at_end = learner.stage is not None and learner.stage_step == learner.stage.steps
        evaluate_now = self.every["evaluation"] > 0 and step % self.every["evaluation"] == 0 and not at_end
        if step % LOG_EVERY == 0 or at_end or evaluate_now:
            self.flush()
        if evaluate_now:
            self.evaluate(stage_end=None)
        stop, late = learner.ranks.any(bool(self._stop), self._late())
        if ((late or step % self.every["checkpoint"] == 0) and not at_end) or stop:
            self.save()
        if stop:
            learner.ranks.wait()  # until rank 0 has saved: torchrun ends the others when one leaves
            why = self._stop or "stopped with another rank"
            raise Interrupted(
                f"{why} at step {step}: everything up to here is saved in {self.folder}; "
                "the same command goes on from this step"
            )
        if evaluate_now:
            self._judged()
        self.meter.resume()

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        """The stage's result: scores on every task, and a checkpoint of its own to start other stages from."""
        self.evaluate(stage_end=stage.name)
        self.save()
        number = len(learner.finished)
        checkpoint.save(
            stage_folder(self.folder, number, stage.name),
            learner.tree(),
            step=learner.step,
            keep=1,
            metadata={"run": self.identity},
        )
        self._judged()

    def _judged(self) -> None:
        if self.judge is not None:
            try:
                self.judge(self.curve)
            except Pruned:
                self.save()
                raise

    # ------------------------------------------------------------------------------------------------ logging

    def flush(self) -> None:
        """Move the pending interval's losses off the device, check them, and log their means."""
        if not self.pending:
            return
        first = self.learner.step - len(self.pending)
        sums: dict[str, list[float]] = {}
        for offset, (result, rate) in enumerate(self.pending):
            self._check(result, first + offset)
            named = {
                f"loss/{_metric(row)}": loss for row, loss in zip(result.rows, result.losses.tolist(), strict=True)
            }
            named |= {f"weight/{_metric(r)}": w for r, w in zip(result.rows, result.weights.tolist(), strict=False)}
            if result.surgery is not None:
                named |= {
                    f"surgery/{_metric(r)}": v for r, v in zip(result.rows, result.surgery.tolist(), strict=False)
                }
            for name, value in {**named, "lr": rate}.items():
                sums.setdefault(name, []).append(value)
        self.pending = []
        means = {name: math.fsum(values) / len(values) for name, values in sums.items()}
        self.sink.log(self.learner.step, means)
        if self.progress is not None:
            losses = {name.removeprefix("loss/"): v for name, v in means.items() if name.startswith("loss/")}
            self.progress.advanced(self.learner.step, losses)

    def _check(self, result: StepResult, step: int) -> None:
        if not bool(torch.isfinite(result.losses).all()):
            rows = [
                row for row, loss in zip(result.rows, result.losses.tolist(), strict=True) if not math.isfinite(loss)
            ]
            raise self.stopped_at(NonFinite(rows), step)

    def stopped_at(self, error: NonFinite, step: int) -> TrainingError:
        """The error to show for a loss that is not a number."""
        good = checkpoint.newest_step(self.folder / CHECKPOINTS)
        last = f"the last good checkpoint is of step {good}" if good is not None else "no checkpoint was written yet"
        return Diverged(
            f"step {step}: the loss or gradient of {', '.join(error.rows)} is not a finite number; {last} "
            f"({self.folder / CHECKPOINTS}). A smaller training.optimizer.lr or training.clip=1.0 usually helps"
        )

    def _log_conflict(self, step: int, result: StepResult) -> None:
        values = self.conflict.add(step, result.rows, result.pieces, result.gramian, result.displacement)
        for block, gramian in result.blocks.items():
            values |= self.conflict.add(step, result.rows, result.pieces, gramian, block=block)
        self.sink.log(step, values)

    def evaluate(self, stage_end: str | None) -> None:
        """Score every task; one point of every curve, one row of R at a stage's end."""
        self.scores, validation = self._scored()
        learner, scales = self.learner, self.evaluator.scales
        self.curve.append(curves.point(learner.step, stage_end, self.scores, validation, scales))
        stages = learner.finished if learner.stage is None else (*learner.finished, learner.stage)
        self.sink.log(learner.step, curves.logged(self.curve, stages, scales))

    def _scored(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of test images, and of validation images where there are any."""
        model = self.learner.model
        own = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.learner.evaluated_weights())
        try:
            return self.evaluator.scores(model), self.validator.scores(model) if self.validator is not None else []
        finally:
            model.load_state_dict(own)

    # ------------------------------------------------------------------------------------------- checkpoints

    def _late(self) -> bool:
        minutes = self.every.get("minutes")
        return minutes is not None and time.monotonic() - self._since > 60.0 * minutes

    def save(self) -> None:
        """Write a checkpoint from which the run goes on bit by bit."""
        self.check()
        recorded = {
            "curve": self.curve,
            "scores": self.scores,
            "conflict": self.conflict.state(),
            "seconds": self.seconds,
            "meter": self.meter.state(),
            "pending": [_to_tree(*one) for one in self.pending],
        }
        checkpoint.save(
            self.folder / CHECKPOINTS,
            {"learner": self.learner.tree(), "recorder": recorded},
            step=self.learner.step,
            keep=self.every["keep"],
            metadata={"run": self.identity},
        )

    def load(self, tree: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.learner.load_tree(tree["learner"])
        recorded = tree["recorder"]
        self.curve, self.scores = recorded["curve"], recorded["scores"]
        self.conflict.load_state(recorded["conflict"])
        self.seconds = recorded["seconds"]
        if "meter" in recorded:
            self.meter.load_state(recorded["meter"])
        self.pending = [_from_tree(one) for one in recorded["pending"]]

    def check(self) -> None:
        """What precedes a checkpoint: no loss since the last one may be other than finite. Raises Diverged."""
        for number, (result, _) in enumerate(self.pending, start=self.learner.step - len(self.pending)):
            self._check(result, number)
        self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now

    @contextmanager
    def stopping_cleanly(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM stop after the step at hand, with a checkpoint; a second Ctrl-C stops at once.

        A second SIGTERM does not: a cluster sends one to every process, and so does their launcher.
        """

        def ask(number: int, _frame: Any) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = f"stopped by {signal.Signals(number).name}"

        try:
            previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: the caller's handlers stay
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


LOGGED = ("rows", "losses", "weights", "surgery")
"""What `flush` reads of a step."""


def _to_tree(result: StepResult, rate: float) -> dict[str, Any]:
    return {"rate": rate, **{name: getattr(result, name) for name in LOGGED}}


def _from_tree(tree: dict[str, Any]) -> tuple[StepResult, float]:
    return StepResult(**{name: tree[name] for name in LOGGED}), tree["rate"]


def _metric(row: str) -> str:
    return row.replace(":", ".")
