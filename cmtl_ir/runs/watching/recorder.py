"""The recorder of a run: its watchers in order, and the cost of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from cmtl_ir.runs.watching.meter import Meter
from cmtl_ir.runs.watching.watcher import RunWatcher
from cmtl_ir.store.folder import latest_checkpoint
from cmtl_ir.strategy.data import Stage
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.step import StepResult

W = TypeVar("W", bound=RunWatcher)


class Recorder(RunWatcher):
    """Call the watchers of a run in the order in which they were added."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self.watchers: list[RunWatcher] = []
        self.meter = Meter(learner.device, learner.passes)

    def add(self, watcher: W) -> W:
        """Add a watcher and return it."""
        self.watchers.append(watcher)
        return watcher

    def wants_gradients(self, step: int) -> bool:
        return any(watcher.wants_gradients(step) for watcher in self.watchers)

    def stage_started(self, learner: Learner, stage: Stage) -> None:
        for watcher in self.watchers:
            watcher.stage_started(learner, stage)
        self.meter.resume()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        self.meter.pause()
        for watcher in self.watchers:
            watcher.stepped(learner, result, rate)
        self.meter.resume()

    def stage_ended(self, learner: Learner, stage: Stage) -> None:
        for watcher in self.watchers:
            watcher.stage_ended(learner, stage)

    def before_save(self) -> None:
        for watcher in self.watchers:
            watcher.before_save()

    def state(self) -> dict[str, Any]:
        merged: dict[str, Any] = {"meter": self.meter.state()}
        for watcher in self.watchers:
            merged |= watcher.state()
        return merged

    def load_state(self, state: Mapping[str, Any]) -> None:
        if "meter" in state:
            self.meter.load_state(state["meter"])
        for watcher in self.watchers:
            watcher.load_state(state)

    def tree(self) -> dict[str, Any]:
        """Return the content of a checkpoint of the run."""
        return {"learner": self.learner.tree(), "recorder": self.state()}

    def resume(self, run: Path) -> None:
        """Continue from the newest checkpoint in a run's folder, if there is one."""
        saved = latest_checkpoint(run)
        if saved is not None:
            self.learner.load_tree(saved.tree["learner"])
            self.load_state(saved.tree["recorder"])
