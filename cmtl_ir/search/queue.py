"""The trials of a study as a queue: nothing is lost when a process dies, nothing is done twice.

Each setting to be tried has a place in the queue, numbered 0, 1, ...; the trial that holds a place carries its number.
A trial whose process died fails, and its place is given to a new trial with the same setting, whose run goes on from
its checkpoint. Who is alive is known from a lock that each process holds until it ends, however it ends; processes
that share a database server but no folder know each other from their heartbeats.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from cmtl_ir.base.errors import UserError

PLACE, OWNER, REASON, FREE = "place", "owner", "reason", "not_counted"
"""User attributes of a trial: its place; its process; why it failed for good; it ended, but was not at fault."""
SUPERFLUOUS = "another trial has its place"
FAILURES = 3
"""So many failed trials in a row, and this process stops: the fault is not in the settings."""
SECONDS = 2.0
"""Between looks at the trials of others, when none is left to take."""

Objective = Callable[[Trial], Sequence[float]]


class TrialFailed(Exception):
    """A setting that cannot be trained; its trial says why."""


class _Superfluous(Exception):
    """A trial whose place is taken."""


class Queue:
    """One process's view of a study."""

    def __init__(
        self, study: Study, places: int, folder: Path, heartbeat: int = 60, retries: int = 3, shared: bool = True
    ) -> None:
        """`folder`: for locks, seen by all others of the study if `shared`."""
        self.study, self.places, self.heartbeat, self.retries, self.shared = study, places, heartbeat, retries, shared
        self.homes = folder / f"{study.study_name}.processes"
        self.homes.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.homes / "queue.lock")
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"
        self._alive = FileLock(self.homes / f"{self.owner}.lock")
        self._alive.acquire()

    def leave(self) -> None:
        """This process takes no more trials."""
        self._alive.release()
        (self.homes / f"{self.owner}.lock").unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------------- taking

    def work_off(self, objective: Objective) -> None:
        """Take trials until none is waiting or at work anywhere. Raises what stops this process."""
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
                    time.sleep(SECONDS)  # should one of the others die, its trial is taken up here
            finally:
                self.lock.release(force=True)
            if len(failed) >= FAILURES:
                raise UserError(f"{FAILURES} trials in a row failed; the last one: {failed[-1]}")

    def _take(self, objective: Objective) -> str | None:
        """One trial, from the queue to its end: why it failed, if it did. Lets go of the lock once it is marked."""

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
            if "Cannot tell a" in str(error):  # we were taken for dead: the trial that took this one up finds its run
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
        """Fail the trials of dead processes, and see to it that every open place has a trial. Under the lock."""
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
            return  # waiting, at work, done, or failed for good
        if sum(FREE not in trial.user_attrs for trial in trials) > self.retries:
            return
        real = [trial for trial in trials if trial.user_attrs.get(FREE) != SUPERFLUOUS]
        self.study.add_trial(_heir(real[-1], place) if real else _waiting({PLACE: place}))

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is None:  # it died between taking the trial and marking it, which is done under the lock: ours, now
            grace = timedelta(seconds=10 * self.heartbeat)
            return self.shared or (trial.datetime_start or datetime.now()) + grace < datetime.now()
        file = self.homes / f"{owner}.lock"
        if owner == self.owner:
            return True  # we do nothing now
        if not file.exists():
            return self.shared  # else it may have its lock elsewhere: its heartbeat says
        try:
            with FileLock(file, timeout=0):
                return True
        except Timeout:
            return False

    def _in_state(self, state: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(state,))


def _waiting(user_attrs: dict[str, object]) -> FrozenTrial:
    return create_trial(state=TrialState.WAITING, user_attrs=user_attrs)


def _heir(dead: FrozenTrial, place: int) -> FrozenTrial:
    """A trial with the setting of a dead one, as Optuna's own retries make it."""
    fixed = {"fixed_params": dead.params} if dead.params else {}
    return create_trial(
        state=TrialState.WAITING,
        params=dead.params,
        distributions=dead.distributions,
        user_attrs={PLACE: place, "takes_up": dead.number},
        system_attrs={**dead.system_attrs, **fixed},
    )


def given_up(trials: Sequence[FrozenTrial], retries: int) -> dict[int, str]:
    """Number of a failed trial that nobody takes up -> why."""
    reasons = {trial.number: str(trial.user_attrs[REASON]) for trial in trials if REASON in trial.user_attrs}
    deaths: dict[int, list[int]] = {}
    for trial in trials:
        if trial.state == TrialState.FAIL and REASON not in trial.user_attrs and FREE not in trial.user_attrs:
            deaths.setdefault(trial.user_attrs.get(PLACE, -1), []).append(trial.number)
    lost = {
        numbers[-1]: f"its process died {len(numbers)} times" for numbers in deaths.values() if len(numbers) > retries
    }
    return {**reasons, **lost}
