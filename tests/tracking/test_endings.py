"""The status of a run in the store is that of its last end, whenever the process was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmtl_ir.tracking.journal import Delivery
from tests.tracking.test_delivery import FakeStore, opened, train


def test_looking_at_a_finished_run_again_asks_the_store_nothing(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    train(tracker, 0, 5)
    tracker.finish("FINISHED")
    store.away = True
    assert opened(store, tmp_path).finish("FINISHED")
    assert store.statuses == ["FINISHED"]


def test_a_resumed_run_runs_again(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    train(tracker, 0, 5)
    tracker.finish("KILLED")
    tracker = opened(store, tmp_path)
    tracker.rewind(3)
    train(tracker, 3, 8)
    tracker.finish("FINISHED")
    assert store.statuses == ["KILLED", "RUNNING", "FINISHED"]


def test_what_is_added_to_a_finished_run_leaves_it_finished(tmp_path: Path) -> None:
    store = FakeStore()
    tracker = opened(store, tmp_path)
    train(tracker, 0, 5)
    tracker.finish("FINISHED")
    tracker = opened(store, tmp_path)
    tracker.log(5, {"forget/a": 1.0})
    tracker.finish("FINISHED")
    tracker = opened(store, tmp_path)
    tracker.text("figure", "a.txt")
    tracker.deliver()
    assert store.statuses == ["FINISHED", "FINISHED"] and store.files == {"/a.txt": b"figure"}


@pytest.mark.parametrize("by", ["running again", "sync"])
def test_a_kill_right_after_the_result_is_written_loses_nothing(by: str, tmp_path: Path) -> None:
    store, result = FakeStore(), tmp_path / "result.json"
    tracker = opened(store, tmp_path)
    train(tracker, 0, 5)
    tracker.concluding(result)
    tracker.deliver()
    assert Delivery.read(tmp_path).due(tmp_path) is None, "it is announced and not written yet"
    result.write_text("{}")  # and here the process is killed
    tracker = opened(store, tmp_path)
    assert tracker.delivery.due(tmp_path) == "FINISHED" and tracker.delivery.waiting(tmp_path) == ["result.json|"]
    if by == "sync":
        tracker.delivery.status = tracker.delivery.due(tmp_path)
        tracker.deliver()
    else:
        tracker.finish("FINISHED")
    assert store.statuses == ["FINISHED"] and store.files == {"/result.json": b"{}"}
    assert Delivery.read(tmp_path).due(tmp_path) is None and Delivery.read(tmp_path).waiting(tmp_path) == []
