"""Jobs in slots: what dies is started again, what fails is named, a signal asks all to save."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cmtl_ir.base.errors import Interrupted
from cmtl_ir.processes import job as processes_job
from cmtl_ir.processes import pool
from cmtl_ir.processes.job import Attempt, Job, LocalProcess, environment_of
from cmtl_ir.processes.pool import RESTARTS, work_off


class Scripted:
    """A job whose attempts end as they are told to, each at the second look."""

    def __init__(self, answer: dict[str, str]) -> None:
        self.ending, self.looks, self.stopped = answer, 0, list[bool]()

    def answer(self) -> dict[str, str] | None:
        self.looks += 1
        return self.ending if self.looks > 1 else None

    def stop(self, at_once: bool = False) -> None:
        self.stopped.append(at_once)


DIED, FINISHED = {"state": "died", "reason": "SIGKILL"}, {"state": "finished"}
FAILED = {"state": "failed", "reason": "no such images"}


def job(name: str, alone: str = "") -> Job:
    return Job(name, {}, Path("log.txt"), alone)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SECONDS", 0.001)


def scripted(endings: dict[str, list[dict[str, str]]]) -> tuple[Callable[[Job, int], Attempt], list[tuple[str, int]]]:
    begun: list[tuple[str, int]] = []

    def start(one: Job, slot: int) -> Attempt:
        begun.append((one.name, slot))
        return Scripted(endings[one.name].pop(0))

    return start, begun


@pytest.mark.parametrize("deaths", range(RESTARTS + 1))
def test_a_job_that_dies_is_started_again(quick: None, deaths: int) -> None:
    start, begun = scripted({"a": [DIED] * deaths + [FINISHED], "b": [FINISHED]})
    assert work_off([job("a"), job("b")], 1, start) == {}
    assert [name for name, _ in begun] == ["a"] * (deaths + 1) + ["b"]


def test_a_job_that_always_dies_is_given_up_with_its_log_and_the_way_out(quick: None) -> None:
    start, begun = scripted({"a": [DIED] * 9})
    (reason,) = work_off([job("a")], 2, start).values()
    assert len(begun) == RESTARTS + 1 and f"ended {RESTARTS + 1} times (SIGKILL; " in reason
    assert "log.txt" in reason and "the same command resumes" in reason


def test_a_job_that_fails_is_not_tried_again_and_the_others_go_on(quick: None) -> None:
    start, begun = scripted({"a": [FAILED], "b": [FINISHED], "c": [FINISHED]})
    assert work_off([job("a"), job("b"), job("c")], 2, start) == {"a": "no such images"}
    assert [name for name, _ in begun] == ["a", "b", "c"]


def test_no_more_than_the_slots_are_at_work_and_twins_never_at_once(quick: None) -> None:
    at_work: set[str] = set()
    most: list[frozenset[str]] = []

    class Watched(Scripted):
        def __init__(self, name: str) -> None:
            super().__init__(FINISHED)
            self.name = name
            at_work.add(name)
            most.append(frozenset(at_work))

        def answer(self) -> dict[str, str] | None:
            ended = super().answer()
            if ended is not None:
                at_work.discard(self.name)
            return ended

    jobs = [job("a1", "a"), job("a2", "a"), job("b"), job("c"), job("d")]
    assert work_off(jobs, 3, lambda one, _: Watched(one.name)) == {}
    assert max(map(len, most)) == 3 and not any({"a1", "a2"} <= names for names in most)


@pytest.mark.error("run: stopped by a signal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_all_to_save_and_says_how_to_go_on(quick: None, heard: None, number: int) -> None:
    attempts: list[Scripted] = []

    class Endless(Scripted):
        def answer(self) -> dict[str, str] | None:
            if len(attempts) == 2 and not self.stopped and self is attempts[1] and self.looks < 3:
                self.looks += 1
                if self.looks == 3:
                    os.kill(os.getpid(), number)
            return {"state": "stopped", "reason": "asked"} if self.stopped else None

    def start(one: Job, slot: int) -> Attempt:
        attempts.append(Endless(DIED))
        return attempts[-1]

    with pytest.raises(Interrupted, match=r"stopped with 2 running and 1 waiting.*the same command resumes"):
        work_off([job("a"), job("b"), job("c")], 2, start)
    assert [one.stopped for one in attempts] == [[False], [False]]


def test_workers_share_cores_and_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes_job, "cores", lambda: 8)
    made = [environment_of(slot, 3, ["0", "5"]) for slot in range(3)]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in made] == ["0", "5", "0"]
    assert {one["OMP_NUM_THREADS"] for one in made} == {"2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 7")
    assert processes_job.visible_gpus() == ["3", "7"]


def test_an_ended_worker_gives_the_same_answer_as_often_as_it_is_asked(tmp_path: Path) -> None:
    worker = LocalProcess(Job("nothing", {"call": "cmtl_ir.nothing:none"}, tmp_path / "log.txt"), dict(os.environ))
    worker.process.wait(120)
    said = worker.answer()
    assert said is not None and worker.answer() == said
