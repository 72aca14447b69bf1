"""Training does not wait for MLflow: a database that is ready is opened with the first delivery, any other at once."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from cmtl_ir.tracking import readiness
from cmtl_ir.tracking.deferred import Announced, DeferredTracker
from cmtl_ir.tracking.journal import Delivery
from cmtl_ir.tracking.store import LATER, RunTracker, Tracking, TrackingError, deliver
from tests.tracking.cases import history
from tests.tracking.test_delivery import FakeStore, train


def test_the_newest_schema_is_the_one_that_mlflow_asks_for() -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert readiness.newest_schema() == _get_latest_schema_revision()


def test_a_ready_database_is_recognized_and_left_as_it_is(store: Tracking) -> None:
    file = store.folder / "mlflow.db"
    before = file.read_bytes()
    assert readiness.is_ready(file) and file.read_bytes() == before
    assert [one.name for one in store.folder.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("fault", ["older", "without runs", "locked", "text", "a folder", "missing"])
def test_a_database_that_needs_mlflows_judgement_is_not_ready(fault: str, store: Tracking, tmp_path: Path) -> None:
    file = store.folder / "mlflow.db"
    with sqlite3.connect(file, isolation_level=None) as connection:
        if fault == "older":
            connection.execute("UPDATE alembic_version SET version_num = '75868b020152'")
        elif fault == "without runs":
            connection.execute("DROP TABLE runs")
        elif fault == "locked":
            connection.execute("BEGIN IMMEDIATE")
        elif fault == "text":
            file = tmp_path / "x.db"
            file.write_text("text " * 500)
        else:
            file = tmp_path if fault == "a folder" else tmp_path / "none.db"
        assert not readiness.is_ready(file)
    connection.close()


# ------------------------------------------------------------------------------------------------- the tracker


class Opening:
    """A store that is announced late, and counts how often."""

    def __init__(self, status: str = "RUNNING") -> None:
        self.store, self.status, self.asked, self.away = FakeStore(), status, list[str](), False

    def __call__(self, known_as: str) -> Announced:
        self.asked.append(known_as)
        if self.away:
            raise TrackingError("nobody there")
        return Announced(self.store, "id", self.status)


def deferred(opening: Opening, folder: Path) -> DeferredTracker:
    return DeferredTracker(opening, folder, Delivery.read(folder), "fake:", seconds=1e6)


def test_a_run_is_announced_with_the_first_delivery(tmp_path: Path) -> None:
    opening = Opening()
    tracker = deferred(opening, tmp_path)
    tracker.log(1, {"loss/a": 1.0})
    tracker.text("early", "a.txt")
    assert opening.asked == [] and Delivery.read(tmp_path).run_id == ""
    tracker.deliver()
    assert opening.asked == [""] and Delivery.read(tmp_path).run_id == tracker.run_id == "id"
    train(tracker, 1, 9)
    assert tracker.finish("FINISHED") and opening.asked == [""] and opening.store.statuses == ["FINISHED"]
    assert opening.store.history()["loss/a"] == [(step, 1.0 / step) for step in range(1, 10)]
    assert opening.store.files == {"/a.txt": b"early"} and opening.store.away is False


def test_a_store_that_breaks_after_it_was_ready_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opening = Opening()
    opening.away = True
    tracker = deferred(opening, tmp_path)
    tracker.log(1, {"loss/a": 1.0})
    with caplog.at_level(logging.WARNING):
        assert not tracker.finish("FINISHED")
    assert "Training continues" in caplog.text and "fake:" in caplog.text
    opening.away = False
    again = deferred(opening, tmp_path)
    assert again.finish("FINISHED") and opening.store.statuses == ["FINISHED"]
    assert opening.store.history() == {"loss/a": [(1, 1.0)]}


def test_a_resumed_run_delivers_each_point_once(tmp_path: Path) -> None:
    opening = Opening()
    first = deferred(opening, tmp_path)
    train(first, 0, 12)
    resumed = deferred(opening, tmp_path)
    resumed.rewind(8)
    train(resumed, 8, 20)
    assert resumed.finish() and opening.asked == ["", "id"]
    assert opening.store.history()["loss/a"] == [(step, 1.0 / step) for step in range(1, 21)]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    opening = Opening()
    tracker = deferred(opening, tmp_path)
    train(tracker, 0, 3)
    tracker.finish("FINISHED")
    opening.status = "FINISHED"
    assert deferred(opening, tmp_path).finish("FINISHED") and opening.store.statuses == ["FINISHED"]


# --------------------------------------------------------------------------------------------- a database


def later(store: Tracking, parent: str, run_hash: str = "abc") -> RunTracker:
    folder = store.folder / "store" / run_hash
    return store.run(run_hash, name="one", parent=parent, comparison="quick", label="joint", params={}, folder=folder)


def test_a_comparison_is_found_or_created_when_its_store_is_opened(store: Tracking) -> None:
    parent = store.parent_later("quick", {"note": "here"}, "a: 1\n")
    tracker = later(store, parent)
    assert parent == f"{LATER}quick" and isinstance(tracker, DeferredTracker) and "_store" not in vars(store)
    tracker.log(1, {"a": 1.0})
    assert tracker.finish() and history(store, tracker.run_id) == {"a": [(1, 1.0)]}
    client, found = store._store.client, store.settled(parent)
    run = client.get_run(found)
    assert (
        client.get_run(tracker.run_id).data.tags["mlflow.parentRunId"] == found == store.parent("quick", {}, "a: 1\n")
    )
    assert run.data.tags["note"] == "here" and run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(found)] == ["experiment.yaml"]
    assert not isinstance(later(store, parent), DeferredTracker), "the store is open"


def test_processes_that_know_a_comparison_by_name_have_one_parent(store: Tracking) -> None:
    parent, tracked = store.parent_later("quick", {"note": "here"}, "a: 1\n"), []
    for worker in ("abc", "def"):
        one = later(Tracking(None, store.folder), parent, worker)
        one.log(1, {"a": 1.0})
        assert isinstance(one, DeferredTracker) and one.finish()
        tracked.append(one.run_id)
    assert store.conclude(parent, {"best": 1.0}, {}, ended=True)
    client = store._store.client
    assert {client.get_run(one).data.tags["mlflow.parentRunId"] for one in tracked} == {store.settled(parent)}
    assert client.get_run(store.settled(parent)).data.tags["note"] == "here"


def test_a_run_that_no_store_knows_is_delivered_by_its_command(store: Tracking) -> None:
    tracker = later(store, store.parent_later("quick", {}, ""))
    tracker.log(1, {"a": 1.0})
    tracker._halt()  # the process is killed before its first delivery
    with pytest.raises(TrackingError, match=r"has no run of .* yet: the experiment's command, given again"):
        deliver(store.folder)
    again = later(store, store.parent_later("quick", {}, ""))
    assert again.finish() and history(store, again.run_id) == {"a": [(1, 1.0)]}


def test_a_store_that_is_not_ready_is_judged_before_anything_trains(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("text " * 500)
    with pytest.raises(TrackingError, match="not a database"):
        Tracking(None, tmp_path).parent_later("quick", {}, "")
