"""Several processes on one study, real kills: no trial is lost, none is done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from cmtl_ir.base.errors import UserError
from cmtl_ir.search.queue import FREE, OWNER, PLACE, REASON, SUPERFLUOUS, Queue, TrialFailed, given_up

PLACES = 8
WORK = """
import sys, time
sys.path.insert(0, sys.argv[3])
from tests.search.test_queue import open_queue
from pathlib import Path
queue = open_queue(Path(sys.argv[1]), sys.argv[2])
def objective(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.02)
    return [x]
queue.work_off(objective)
queue.leave()
"""
STORAGES = ("sqlite", "journal")


def open_study(folder: Path, kind: str) -> optuna.Study:
    if kind == "journal":
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
        storage: optuna.storages.BaseStorage = optuna.storages.JournalStorage(backend)
    else:
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}", heartbeat_interval=60)
    sampler = optuna.samplers.RandomSampler()
    return optuna.create_study(storage=storage, study_name="s", sampler=sampler, load_if_exists=True)


def open_queue(folder: Path, kind: str, retries: int = 3, shared: bool = True) -> Queue:
    return Queue(open_study(folder, kind), PLACES, folder, retries=retries, shared=shared)


def start(folder: Path, kind: str) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", WORK, str(folder), kind, root])


def places(study: optuna.Study, *states: TrialState) -> list[int]:
    return sorted(trial.user_attrs[PLACE] for trial in study.get_trials(states=states))


def wait_until_at_work(study: optuna.Study, owners: int) -> list[optuna.trial.FrozenTrial]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        running = [t for t in study.get_trials(states=(TrialState.RUNNING,)) if OWNER in t.user_attrs and t.params]
        if len({trial.user_attrs[OWNER] for trial in running}) >= owners:
            return running
        time.sleep(0.02)
    raise AssertionError("nobody took a trial")


@pytest.mark.parametrize("kind", STORAGES)
def test_two_processes_one_killed_no_trial_lost_or_doubled(tmp_path: Path, kind: str) -> None:
    study = open_study(tmp_path, kind)
    processes = {process.pid: process for process in (start(tmp_path, kind), start(tmp_path, kind))}
    running = wait_until_at_work(study, owners=2)
    pid = int(running[0].user_attrs[OWNER].split("-")[-2])
    processes[pid].send_signal(signal.SIGKILL)
    (tmp_path / "go").touch()
    assert all(process.wait(timeout=240) in (0, -9) for process in processes.values())
    assert places(study, TrialState.COMPLETE) == list(range(PLACES))
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    (dead,) = study.get_trials(states=(TrialState.FAIL,))
    (heir,) = [trial for trial in study.trials if trial.user_attrs.get("takes_up") == dead.number]
    assert heir.params == dead.params and heir.user_attrs[PLACE] == dead.user_attrs[PLACE]


@pytest.mark.parametrize("kind", STORAGES)
def test_a_study_whose_only_process_was_killed_goes_on(tmp_path: Path, kind: str) -> None:
    study = open_study(tmp_path, kind)
    process = start(tmp_path, kind)
    wait_until_at_work(study, owners=1)
    process.kill()
    process.wait()
    queue = open_queue(tmp_path, kind)
    queue.work_off(lambda trial: [trial.suggest_float("x", 0.0, 1.0)])
    assert places(study, TrialState.COMPLETE) == list(range(PLACES))


def test_a_trial_that_died_between_being_taken_and_being_marked_is_found(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, "journal")
    queue.mend()
    queue.study.ask()  # a process that dies right here leaves no mark
    queue.work_off(lambda trial: [0.0])
    assert places(queue.study, TrialState.COMPLETE) == list(range(PLACES))


class Killed(BaseException):
    """Stands for the end of the process: Optuna marks nothing."""


def test_a_dead_trial_of_a_sampler_that_has_tried_everything_is_taken_up(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> list[float]:
        value = trial.suggest_categorical("x", list(range(PLACES)))
        if trial.number == PLACES - 1:
            raise Killed
        return [float(value)]

    from cmtl_ir.search.optuna_study import ByNumber  # not above: the processes that this file starts need none of it

    def exhaustive() -> Queue:
        study = open_study(tmp_path, "journal")
        study.sampler = ByNumber(lambda seed: optuna.samplers.BruteForceSampler(seed=seed), 0)
        return Queue(study, PLACES, tmp_path)

    dying = exhaustive()
    with pytest.raises(Killed):
        dying.work_off(objective)
    dying.leave()
    queue = exhaustive()
    queue.work_off(objective)
    complete = queue.study.get_trials(states=(TrialState.COMPLETE,))
    assert sorted(trial.params["x"] for trial in complete) == list(range(PLACES))


def test_a_setting_that_kills_its_process_is_given_up_after_its_retries(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, "journal", retries=2)
    for _ in range(3):
        queue.mend()
        trial = next(t for t in queue.study.get_trials(states=(TrialState.WAITING,)) if t.user_attrs[PLACE] == 0)
        queue.study._storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
        queue.study._storage.set_trial_user_attr(trial._trial_id, OWNER, "nobody")
    queue.work_off(lambda trial: [0.0])
    assert places(queue.study, TrialState.COMPLETE) == list(range(1, PLACES))
    assert list(given_up(queue.study.trials, 2).values()) == ["its process died 3 times"]


def test_a_setting_that_cannot_be_trained_is_not_tried_again(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> list[float]:
        if trial.user_attrs[PLACE] == 2:
            trial.set_user_attr(REASON, "no")
            raise TrialFailed("no")
        return [0.0]

    queue = open_queue(tmp_path, "sqlite")
    queue.work_off(objective)
    queue.work_off(objective)
    assert len(queue.study.trials) == PLACES and places(queue.study, TrialState.FAIL) == [2]


def test_a_full_disk_stops_the_process_and_leaves_the_place_open(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> list[float]:
        trial.set_user_attr(FREE, "interrupted")
        raise UserError("no space left")

    queue = open_queue(tmp_path, "journal", retries=0)
    for _ in range(3):
        with pytest.raises(UserError, match="no space left"):
            queue.work_off(objective)
    queue.work_off(lambda trial: [0.0])
    assert places(queue.study, TrialState.COMPLETE) == list(range(PLACES))


@pytest.mark.error("search: several failed trials in a row")
def test_many_failures_in_a_row_stop_the_process(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> list[float]:
        trial.set_user_attr(REASON, "broken")
        raise TrialFailed("broken")

    queue = open_queue(tmp_path, "journal")
    with pytest.raises(UserError, match="3 trials in a row failed; the last one: broken"):
        queue.work_off(objective)
    assert len(places(queue.study, TrialState.WAITING)) == PLACES - 3


def test_two_machines_that_fill_the_queue_at_once_do_nothing_twice(tmp_path: Path) -> None:
    one, other = (open_queue(tmp_path, "journal", shared=False) for _ in range(2))
    one.mend()
    for place in range(PLACES):  # what the other machine adds when both find the study empty
        attributes = {PLACE: place}
        other.study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attributes))
    other.work_off(lambda trial: [0.0])
    assert Counter(places(one.study, TrialState.COMPLETE)) == Counter(range(PLACES))
    spare = one.study.get_trials(states=(TrialState.FAIL,))
    assert len(spare) == PLACES and {trial.user_attrs[FREE] for trial in spare} == {SUPERFLUOUS}


def test_fewer_and_more_trials_than_before(tmp_path: Path) -> None:
    queue = open_queue(tmp_path, "journal")
    queue.mend()
    queue.places = 3
    queue.work_off(lambda trial: [0.0])
    assert places(queue.study, TrialState.COMPLETE) == [0, 1, 2]
    queue.places = 5
    queue.work_off(lambda trial: [0.0])
    assert places(queue.study, TrialState.COMPLETE) == [0, 1, 2, 3, 4]
