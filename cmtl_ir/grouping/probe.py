"""Measurements on which a grouping decides: proxy runs, features, look-aheads and conflicts.

They are cached in the folder of their run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock

from cmtl_ir.base.files import or_nan, write_json
from cmtl_ir.config.experiment import Strategy
from cmtl_ir.config.reading import neutral
from cmtl_ir.grouping.features import load_features, measured, save_features, training_patches
from cmtl_ir.grouping.look_ahead import LookAheadWatcher
from cmtl_ir.grouping.members import Members
from cmtl_ir.measures.conflict import ConflictLog, PairRecord
from cmtl_ir.runs.plan import PlannedRun
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.layout import CONFLICT, PROBES
from cmtl_ir.store.run import Run
from cmtl_ir.strategy.grouping import Array, Features, Grouping, proxy_steps
from cmtl_ir.training.loop import train

T = TypeVar("T")
LEAST_LOOKS = 4
"""Smallest number of look-aheads per proxy. A proxy too short for them looks ahead more often than requested."""


class RunProbe:
    """The probe of one experiment and seed. Its proxy runs get the share of the budget that the grouping asks for."""

    def __init__(
        self, members: Members, grouping: Grouping, strategy: Strategy, notes: list[str] | None = None
    ) -> None:
        self.members, self.grouping = members, grouping
        self.strategy = strategy.model_copy(update={"grouping": None})
        self.tasks, self.seed = tuple(members.tasks), members.seed
        self.notes: list[str] = [] if notes is None else notes

    def under(self, grouping: Grouping) -> RunProbe:
        """Return the same probe with the share and patches of another grouping."""
        return RunProbe(self.members, grouping, self.strategy, self.notes)

    def say(self, text: str) -> None:
        """Add a sentence to the notes of the report."""
        self.notes.append(text)

    def proxy(self, **changes: Any) -> PlannedRun:
        """Plan the joint proxy: all tasks, neutral parts, and a share of the budget."""
        steps = max(1, round(self.grouping.share * self.members.experiment.training.steps))
        return self.members.plan(self.tasks, neutral(), steps, "probes", **{"conflict": 0, **changes})

    def side(self) -> int:
        """Return the side of the patches that the images of all tasks allow."""
        return min(training_patches(task, self.grouping.size)[1] for task in self.members.tasks.values())

    def features_file(self) -> Path:
        """Return the file with the features of the joint proxy. Compute it if it does not exist."""
        proxy = self.proxy()
        file = proxy.run.folder / PROBES / f"features-{self.grouping.patches}-{self.side()}.safetensors"
        if not file.is_file():
            self.members.train(proxy)
            _once(file, lambda: save_features(file, self._features(proxy.run)))
        return file

    def features(self) -> Mapping[str, Features]:
        """Return features of the frozen joint proxy on the same patches under the degradation of each task."""
        found = load_features(self.features_file())
        return {task: found[task] for task in self.tasks}

    def _features(self, run: Run) -> dict[str, Features]:
        model, _ = load_model(run.folder, self.members.whole.device)
        side, found = self.side(), {}
        for name, task in self.members.tasks.items():
            patches, _ = training_patches(task, side)
            found[name] = measured(model, patches, self.grouping.patches, side, self.members.whole.device)
        return found

    def affinity(self, every: int, look_ahead: str) -> Array:
        """Return affinities [K, K], with entry (a, b) = Z_{b -> a}, over a joint proxy that is trained once more."""
        proxy = self.proxy()
        steps = proxy.experiment.training.steps
        every = max(1, min(every, steps // LEAST_LOOKS))
        file = proxy.run.folder / PROBES / f"affinity-{look_ahead}-{every}.json"
        if not file.is_file():
            self.members.train(proxy)  # reports step and task if training fails, before it is repeated
            _once(file, lambda: _write_matrix(file, self.tasks, self._affinity(proxy, every, look_ahead)))
        return _read_matrix(file, self.tasks)

    def _affinity(self, proxy: PlannedRun, every: int, look_ahead: str) -> Array:
        learner = proxy.learner()
        home = proxy.run.folder / PROBES / f"look-{look_ahead}-{every}"
        watcher = LookAheadWatcher(learner, home, every, look_ahead, proxy.experiment.checkpoint.every)
        watcher.load()
        train(learner, watcher)
        return watcher.affinity

    def cosines(self, every: int) -> Array:
        """Return noise-corrected cosines [K, K].

        The proxy draws at least two samples per task and step, because the correction compares halves of the batch.
        """
        batch = max(self.members.experiment.training.batch, 2 * len(self.tasks))
        proxy = self.proxy(conflict=every, batch=batch)
        log = read_conflict(self.members.train(proxy).folder / CONFLICT)
        values, unsure = np.eye(len(self.tasks)), []
        for i, a in enumerate(self.tasks):
            for j, b in enumerate(self.tasks[:i]):
                found = log.corrected(a, b)
                values[i, j] = values[j, i] = found.estimate if not found.reason else np.nan
                unsure += [f"{a}-{b}"] if found.reason else []
        if unsure:
            some = f"{', '.join(unsure[:6])}{' ...' if unsure[6:] else ''}"
            self.say(f"gradient cosines not measurable in {proxy.experiment.training.steps} steps: {some}")
        return values

    def validation(self, groups: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        """Train a proxy run with the strategy's own parts per group.

        Returns one dict per group, task -> PSNR in dB on validation images.
        """
        scores = []
        whole = self.members.experiment.training.steps
        for group in groups:
            steps = proxy_steps(len(group), len(self.tasks), whole, self.grouping)
            run = self.members.train(self.members.plan(group, self.strategy, steps, "probes"))
            scores.append(dict(run.result()["val"]["psnr"]))
        return scores


def _once(file: Path, make: Callable[[], T]) -> None:
    """Make a file unless it exists. Of several processes, one makes it and the others wait."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.parent / f"{file.name}.lock"):
        if not file.is_file():
            make()


def _write_matrix(file: Path, tasks: Sequence[str], values: Array) -> None:
    """Write a matrix as {a: {b: value}}, the format in which the authors of TAG publish theirs."""
    table = {a: {b: float(values[i, j]) for j, b in enumerate(tasks)} for i, a in enumerate(tasks)}
    write_json(file, table)


def _read_matrix(file: Path, tasks: Sequence[str]) -> Array:
    table = json.loads(file.read_text())
    return np.array([[or_nan(table[a][b]) for b in tasks] for a in tasks])


def read_conflict(file: Path) -> ConflictLog:
    """Read the conflict log of a run from its CSV file."""
    names = [one.name for one in fields(PairRecord)]
    with file.open(newline="") as opened:
        rows = [[_value(name, row[name]) for name in names if name in row] for row in csv.DictReader(opened)]
    log = ConflictLog()
    log.load_state({"rows": rows})
    return log


def _value(name: str, text: str) -> Any:
    if name in ("row_a", "row_b", "block"):
        return text
    return int(text) if name == "step" else float(text) if text else None
