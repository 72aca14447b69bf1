"""Saving of a run: checkpoints at the steps where they are due, and a clean stop on request."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import Interrupted
from cmtl_ir.base.signals import answered
from cmtl_ir.runs.watching.recorder import Recorder
from cmtl_ir.runs.watching.watcher import Cadence, RunWatcher, at_stage_end
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import CHECKPOINTS, stage_folder
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult


class Saving(RunWatcher):
    """Decide when the run is saved, and stop it on request. Writes nothing; rank 0 uses `Checkpoints`, which writes."""

    def __init__(self, recorder: Recorder, run: Path, cadence: Cadence) -> None:
        """The state of `recorder` is saved. `run` is the folder of the run."""
        self.recorder, self.run, self.cadence = recorder, run, cadence
        self.seconds, self._since = 0.0, time.monotonic()
        self.cpu_seconds, self._cpu_since = 0.0, time.process_time()
        self.saved: int | None = None
        """Step of the last checkpoint of this process. `None` if it has written none."""
        self._stop: str | None = None

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        """Save if a checkpoint is due. Raise Interrupted if any rank was asked to stop."""
        stop, late = learner.ranks.any(bool(self._stop), self._late())
        if ((late or learner.step % self.cadence.checkpoint == 0) and not at_stage_end(learner)) or stop:
            self.save()
        if stop:
            learner.ranks.wait()  # until rank 0 has saved: torchrun ends all ranks when one leaves
            why = self._stop or "stopped with another rank"
            raise Interrupted(
                f"{why} at step {learner.step}: everything up to here is saved in {self.run}; "
                "the same command resumes from this step"
            )

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        self.save()

    def save(self) -> None:
        """Save the state from which the run resumes exactly."""
        self.recorder.before_save()
        self.write()
        self.saved = self.recorder.learner.step

    def write(self) -> None:
        """Write a checkpoint. Nothing is written here; see `Checkpoints`."""

    def before_save(self) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        cpu = time.process_time()
        self.cpu_seconds, self._cpu_since = self.cpu_seconds + cpu - self._cpu_since, cpu

    def _late(self) -> bool:
        minutes = self.cadence.minutes
        return minutes is not None and time.monotonic() - self._since > 60.0 * minutes

    def state(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.seconds = state["seconds"]
        self.cpu_seconds = state.get("cpu_seconds", math.nan)  # an older version did not measure it

    @contextmanager
    def stopping_cleanly(self) -> Iterator[None]:
        """Stop after the current step, with a checkpoint, on Ctrl-C, SIGTERM or SIGHUP. A second Ctrl-C stops at once.

        A second SIGTERM does not, because a cluster and the launcher may each send one to every process.
        """

        def ask(number: int, frame: Any) -> None:
            if self._stop and number == signal.SIGINT:
                if callable(outer := before.get(number)):
                    outer(number, frame)
                raise KeyboardInterrupt
            self._stop = self._stop or f"stopped by {signal.Signals(number).name}"

        with answered(ask) as before:
            yield


class Checkpoints(Saving):
    """Write the newest checkpoints, and one at the end of each stage from which other runs may start."""

    def write(self) -> None:
        checkpoint.save(
            self.run / CHECKPOINTS,
            self.recorder.tree(),
            step=self.recorder.learner.step,
            keep=self.cadence.keep,
            metadata={"run": self.run.name},
        )

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        super().stage_ended(learner, stage)
        checkpoint.save(
            stage_folder(self.run, len(learner.finished), stage.name),
            learner.tree(),
            step=learner.step,
            keep=1,
            metadata={"run": self.run.name},
        )
