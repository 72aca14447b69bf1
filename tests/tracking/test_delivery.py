"""Whatever dies and whenever, the store ends with every point of the journal, once."""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cmtl_ir.tracking import journal
from cmtl_ir.tracking import tracker as delivery
from cmtl_ir.tracking.journal import Delivery, Point, TrackingError
from cmtl_ir.tracking.tracker import RunTracker
from tests.tracking.cases import entries


class Away(Exception):
    pass


class Killed(BaseException):
    pass


class FakeStore:
    """Keeps all that it is sent: harder than MLflow's database, which knows a point by its time."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self.files: dict[str, bytes] = {}
        self.statuses: list[str] = []
        self.away = False
        self.batches: list[int] = []

    def call(self) -> None:
        if self.away:
            raise Away("nobody\nthere")

    def send(self, run_id: str, points: Sequence[Point]) -> None:
        self.call()
        assert 0 < len(points) <= 1000
        self.batches.append(len(points))
        self.points += points

    def latest(self, run_id: str) -> dict[str, int]:
        self.call()
        found: dict[str, int] = {}
        for point in self.points:
            found[point.name] = max(point.step, found.get(point.name, point.step))
        return found

    def steps(self, run_id: str, name: str) -> set[int]:
        self.call()
        return {point.step for point in self.points if point.name == name}

    def upload(self, run_id: str, file: Path, folder: str) -> None:
        self.call()
        self.files[f"{folder}/{file.name}"] = file.read_bytes()

    def set_status(self, run_id: str, status: str) -> None:
        self.call()
        self.statuses.append(status)

    def history(self) -> dict[str, list[tuple[int, float]]]:
        found = defaultdict(list)
        for point in self.points:
            found[point.name].append((point.step, point.value))
        return {name: sorted(points) for name, points in sorted(found.items())}


def opened(store: FakeStore, folder: Path, seconds: float = 1e6) -> RunTracker:
    mark = Delivery.read(folder).moved_to("fake:", "id")
    return RunTracker(store, folder, mark, store.statuses[-1] if store.statuses else "RUNNING", seconds)


def train(tracker: RunTracker, start: int, end: int, deliver_every: int = 7) -> None:
    """What a run logs from step `start` to `end`; conflict is logged with the number of the step before."""
    for step in range(start + 1, end + 1):
        tracker.log(step - 1, {"conflict/a.b": -float(step)})
        tracker.log(step, {"loss/a": 1.0 / step, "loss/b": step / 3.0})
        if step % 5 == 0:
            tracker.log(step, {"psnr/a": 20.0 + step})
        if step % deliver_every == 0:
            tracker.deliver()


def unbroken(folder: Path) -> dict[str, list[tuple[int, float]]]:
    store = FakeStore()
    tracker = opened(store, folder)
    train(tracker, 0, 30)
    assert tracker.finish("FINISHED") and store.statuses == ["FINISHED"]
    return store.history()


def test_everything_arrives_in_batches(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    tracker.log(1, {f"wide/{number}": 0.0 for number in range(2500)})
    for step in range(2, 400):
        tracker.log(step, {f"m{number}": 0.0 for number in range(10)})
    assert tracker.finish() and sum(store.batches) == len(store.points) == 2500 + 3980
    assert len(store.batches) < 10
    assert Delivery.read(tmp_path).arrived == tracker.journal.size


@pytest.mark.parametrize("saved", [0, 7, 10, 12])
@pytest.mark.parametrize("killed", [12, 14, 21])
def test_a_resumed_run_has_the_unbroken_runs_history(saved: int, killed: int, tmp_path: Path) -> None:
    store = FakeStore()
    train(opened(store, tmp_path / "run"), 0, killed)  # no finish: the process is gone
    tracker = opened(store, tmp_path / "run")
    tracker.rewind(saved)
    train(tracker, saved, 30)
    tracker.finish()
    assert store.history() == unbroken(tmp_path / "unbroken")
    assert entries(tmp_path / "run") == entries(tmp_path / "unbroken")


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("what", ["send", "write"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_kill_between_delivery_and_mark_duplicates_nothing(
    what: str, effect: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path / "run")
    calls = 0
    real: Callable[..., None] = store.send if what == "send" else delivery.Delivery.write

    def dying(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls < number or effect == "after":
            real(*arguments)
        if calls == number:
            raise Killed

    monkeypatch.setattr(store if what == "send" else delivery.Delivery, what, dying)
    reached = 0
    with pytest.raises(Killed):
        for reached in range(30):
            train(tracker, reached, reached + 1, deliver_every=3)
        tracker.deliver()
        raise Killed
    monkeypatch.undo()
    saved = reached // 4 * 4
    tracker = opened(store, tmp_path / "run")
    tracker.rewind(saved)
    train(tracker, saved, 30)
    tracker.finish()
    assert store.history() == unbroken(tmp_path / "unbroken")


@pytest.mark.parametrize("rewinding", [False, True])
def test_points_that_were_sent_but_not_marked_are_not_sent_again(
    rewinding: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    train(tracker, 0, 10, deliver_every=99)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Delivery, "write", lambda *_: (_ for _ in ()).throw(Killed))
        tracker.deliver()
    tracker = opened(store, tmp_path)
    if rewinding:
        tracker.rewind(10)
    assert store.points and tracker.finish()
    assert len(store.points) == len(set(store.points)) == 10 * 3 + 2


def test_an_answer_that_is_lost_duplicates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    tracker.log(1, {f"wide/{number}": 0.0 for number in range(2500)})
    send = store.send

    def heard_but_not_answered(run_id: str, points: Sequence[Point]) -> None:
        send(run_id, points)
        raise Away

    with monkeypatch.context() as patch:
        patch.setattr(store, "send", heard_but_not_answered)
        assert not tracker.finish() and not tracker.finish()
    tracker.log(2, {"wide/0": 0.0})
    assert tracker.finish() and len(store.points) == len(set(store.points)) == 2501


def test_a_new_cadence_after_resuming_is_delivered_whole(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    for step in range(0, 21, 4):
        tracker.log(step, {"a": 0.0})
    tracker.deliver()
    tracker = opened(store, tmp_path)
    tracker.rewind(8)
    for step in range(10, 31, 2):
        tracker.log(step, {"a": 0.0})
    tracker.finish()
    assert [step for step, _ in store.history()["a"]] == [0, 4, 8, *range(10, 31, 2)]


def test_a_store_that_is_away_costs_one_warning_and_no_point(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path / "run", seconds=0.01)
    train(tracker, 0, 10, deliver_every=99)
    store.away = True
    with caplog.at_level(logging.WARNING):
        for start in range(10, 20):
            train(tracker, start, start + 1, deliver_every=99)
            time.sleep(0.02)
        assert len(caplog.records) == 1
        for said in ("fake:", "nobody", "Training continues", str(tracker.journal.path)):
            assert said in caplog.text
        assert "there" not in caplog.text
        store.away = False
        train(tracker, 20, 30, deliver_every=99)
        assert tracker.finish() and len(caplog.records) == 1
    assert store.history() == unbroken(tmp_path / "unbroken") and store.statuses == ["FINISHED"]


def test_away_at_the_end_leaves_all_for_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.away = True
    tracker = opened(store, tmp_path / "run")
    train(tracker, 0, 30, deliver_every=99)
    tracker.text("hello", "notes/a.md")
    assert not tracker.finish("KILLED") and store.points == []
    assert f"cmtl-ir sync {tmp_path / 'run'}" in caplog.text
    store.away = False
    opened(store, tmp_path / "run").deliver()
    assert store.history() == unbroken(tmp_path / "unbroken")
    assert store.statuses == ["KILLED"] and store.files == {"notes/a.md": b"hello"}


def test_a_background_thread_delivers_while_training(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path, seconds=0.01)
    tracker.log(1, {"a": 1.0})
    deadline = time.monotonic() + 10
    while not store.points and time.monotonic() < deadline:
        time.sleep(0.01)
    assert store.history() == {"a": [(1, 1.0)]}
    tracker.finish()
    tracker.log(2, {"a": 2.0})
    tracker.finish()
    assert store.history() == {"a": [(1, 1.0), (2, 2.0)]}


def test_another_store_is_sent_everything(tmp_path: Path) -> None:
    first, second = FakeStore(), FakeStore()
    tracker = opened(first, tmp_path / "run")
    train(tracker, 0, 30)
    tracker.text("x", "a.txt")
    tracker.finish()
    mark = Delivery.read(tmp_path / "run").moved_to("other:", "id2")
    RunTracker(second, tmp_path / "run", mark, "RUNNING", 1e6).finish()
    assert second.history() == first.history() and second.files == first.files


# -------------------------------------------------------------------------------------------------- artifacts


def test_artifacts_keep_their_folders(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path / "run")
    inside, outside = tmp_path / "run" / "restored" / "a.png", tmp_path / "b.csv"
    inside.parent.mkdir()
    inside.write_bytes(b"a")
    outside.write_bytes(b"b")
    tracker.artifact(inside, "restored")
    tracker.artifact(outside, ".")
    tracker.dict({"x": [1]}, "tables/x.json")
    tracker.artifact(tmp_path / "run" / "gone.txt")
    assert tracker.finish()
    assert store.files == {"restored/a.png": b"a", "/b.csv": b"b", "tables/x.json": b'{\n "x": [\n  1\n ]\n}'}
    assert Delivery.read(tmp_path / "run").waiting(tmp_path / "run") == []


def test_a_figure_is_an_artifact(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    store = FakeStore()
    tracker = opened(store, tmp_path)
    tracker.figure(Figure(), "plots/empty.png")
    tracker.finish()
    assert store.files["plots/empty.png"].startswith(b"\x89PNG")


def test_an_artifact_cannot_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves the run's folder"):
        opened(FakeStore(), tmp_path / "run").text("x", "../../x.txt")


def test_a_file_written_whole_leaves_nothing_beside_it(tmp_path: Path) -> None:
    journal.replace_whole(tmp_path / "a", b"1")
    journal.replace_whole(tmp_path / "a", b"2")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_bytes() == b"2"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_answer(tmp_path: Path) -> None:
    tracker = opened(FakeStore(), tmp_path)
    tracker.journal.path.unlink(missing_ok=True)
    tracker.journal.path.symlink_to("/dev/full")
    with pytest.raises(TrackingError, match=r"metrics\.jsonl: No space left on device.*last checkpoint"):
        tracker.log(1, {"a": 1.0})
