"""The trials of a study as a queue: no trial is lost when a process dies, and no trial is trained twice.

Each setting to be tried has a place in the queue, numbered from 0. The trial that holds a place stores its number. A
trial whose process died is marked as failed. Its place is given to a new trial with the same setting, whose run resumes
from its checkpoint. Each process holds a lock until it ends in whatever way, which shows whether it is alive. Processes
that share a database server but no folder rely on their heartbeats.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from cmtl_ir.base.errors import UserError

PLACE, OWNER, REASON, FREE = "place", "owner", "reason", "not_counted"
"""User attributes of a trial: place, process, reason of a final failure, reason why its end counts as no failure."""
CPU = "cpu_seconds"
"""User attribute of a trial: processor seconds of its process, over all threads. A killed trial has none."""
FIXED = "fixed_params"
"""System attribute of a trial in which Optuna keeps the parameters that its sampler must not draw."""
SUPERFLUOUS = "another trial has its place"
FAILURES = 3
"""Number of failed trials in a row after which this process stops: the cause is not in the settings."""
SECONDS = 2.0
"""Time between checks of the trials of other processes when none is left to take."""

Objective = Callable[[Trial], Sequence[float]]


class TrialFailed(Exception):
    """Raised for a setting that cannot be trained. Its trial stores the reason."""


class _Superfluous(Exception):
    """Raised for a trial whose place is taken."""


class Queue:
    """The queue of a study as one process sees it."""

    def __init__(
        self,
        study: Study,
        places: int,
        folder: Path,
        heartbeat: int = 60,
        retries: int = 3,
        shared: bool = True,
        points: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`folder` holds the locks. If `shared`, all processes of the study see it.

        `points`: parameters of the first places that are fixed in advance.
        """
        self.study, self.places, self.heartbeat, self.retries, self.shared = study, places, heartbeat, retries, shared
        self.points = points
        self.homes = folder / f"{study.study_name}.processes"
        self.homes.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.homes / "queue.lock")
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"
        self._alive = FileLock(self.homes / f"{self.owner}.lock")
        self._alive.acquire()

    def leave(self) -> None:
        """Leave the queue: this process takes no more trials."""
        self._alive.release()
        (self.homes / f"{self.owner}.lock").unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------------- taking

    def work_off(self, objective: Objective) -> None:
        """Take trials until none is waiting or running anywhere.

        Raises UserError after several failures in a row, and any error that stops this process.
        """
        failed: list[str] = []
        while True:
            self.lock.acquire()
            try:
                self.mend()
                if self._in_state(TrialState.WAITING):
                    reason = self._take(objective)
                    failed = [*failed, reason] if reason else []
                elif not self._in_state(TrialState.RUNNING):
                    return
                else:
                    self.lock.release(force=True)
                    time.sleep(SECONDS)  # if another process dies, its trial is resumed here
            finally:
                self.lock.release(force=True)
            if len(failed) >= FAILURES:
                raise UserError(f"{FAILURES} trials in a row failed; the last one: {failed[-1]}")

    def _take(self, objective: Objective) -> str | None:
        """Take a trial and finish it, releasing the lock once the trial is marked. Return why it failed, or `None`."""

        def attempt(trial: Trial) -> Sequence[float]:
            self._claim(trial)
            self.lock.release(force=True)
            return objective(trial)

        try:
            self.study.optimize(attempt, n_trials=1)
        except (_Superfluous, optuna.exceptions.UpdateFinishedTrialError):
            return None
        except UserError:
            raise
        except Exception as error:
            if "Cannot tell a" in str(error):  # this process was taken for dead; another trial resumes the run
                return None
            return str(error) if isinstance(error, TrialFailed) else f"{type(error).__name__}: {error}"
        return None

    def _claim(self, trial: Trial) -> None:
        trial.set_user_attr(OWNER, self.owner)
        place = trial.user_attrs.get(PLACE, self.places)
        before = [one for one in self.study.get_trials(deepcopy=False) if one.number < trial.number]
        rivals = [one for one in before if one.user_attrs.get(PLACE) == place and one.state != TrialState.FAIL]
        if rivals or place >= self.places:
            trial.set_user_attr(FREE, SUPERFLUOUS)
            raise _Superfluous

    # ------------------------------------------------------------------------------------------------ mending

    def mend(self) -> None:
        """Fail the trials of dead processes and add a trial for every open place. The caller holds the lock."""
        optuna.storages.fail_stale_trials(self.study)
        for trial in self._in_state(TrialState.RUNNING):
            if self._is_dead(trial):
                self.study.tell(trial.number, state=TrialState.FAIL)
        taken: dict[int, list[FrozenTrial]] = {}
        for trial in self.study.get_trials(deepcopy=False):
            taken.setdefault(trial.user_attrs.get(PLACE, self.places), []).append(trial)
        for place in range(self.places):
            self._mend_place(place, taken.get(place, []))

    def _mend_place(self, place: int, trials: list[FrozenTrial]) -> None:
        if any(trial.state != TrialState.FAIL or REASON in trial.user_attrs for trial in trials):
            return  # waiting, running, complete, or finally failed
        if sum(FREE not in trial.user_attrs for trial in trials) > self.retries:
            return
        real = [trial for trial in trials if trial.user_attrs.get(FREE) != SUPERFLUOUS]
        fixed = self.points[place] if place < len(self.points) else {}
        self.study.add_trial(_retry_of(real[-1], place) if real else _waiting({PLACE: place}, fixed))

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is None:  # it died before it marked the trial; marking needs the lock that we hold
            grace = timedelta(seconds=10 * self.heartbeat)
            return self.shared or (trial.datetime_start or datetime.now()) + grace < datetime.now()
        file = self.homes / f"{owner}.lock"
        if owner == self.owner:
            return True  # this process runs no trial at this moment
        if not file.exists():
            return self.shared  # otherwise its lock may be in another folder, and its heartbeat counts
        try:
            with FileLock(file, timeout=0):
                return True
        except Timeout:
            return False

    def _in_state(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))


def _waiting(user_attrs: dict[str, object], fixed: Mapping[str, Any]) -> FrozenTrial:
    system_attrs = {FIXED: dict(fixed)} if fixed else {}
    return create_trial(state=TrialState.WAITING, user_attrs=user_attrs, system_attrs=system_attrs)


def _retry_of(dead: FrozenTrial, place: int) -> FrozenTrial:
    """Return a waiting trial with the setting of a dead one, in the form of Optuna's own retries."""
    known = {**dead.system_attrs.get(FIXED, {}), **dead.params}
    fixed = {FIXED: known} if known else {}
    return create_trial(
        state=TrialState.WAITING,
        params=dead.params,
        distributions=dead.distributions,
        user_attrs={PLACE: place, "takes_up": dead.number},
        system_attrs={**dead.system_attrs, **fixed},
    )


def given_up(trials: Sequence[FrozenTrial], retries: int) -> dict[int, str]:
    """Return the reasons of failed trials that no process resumes, by the number of the trial."""
    reasons = {trial.number: str(trial.user_attrs[REASON]) for trial in trials if REASON in trial.user_attrs}
    deaths: dict[int, list[int]] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL and REASON not in trial.user_attrs and FREE not in trial.user_attrs:
            deaths.setdefault(trial.user_attrs.get(PLACE, -1), []).append(trial.number)
    lost = {
        numbers[-1]: f"its process died {len(numbers)} times" for numbers in deaths.values() if len(numbers) > retries
    }
    return {**reasons, **lost}
