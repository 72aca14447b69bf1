"""A store is made once whoever starts first, and one that is old, new, away or unusable is an answer."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cmtl_ir.tracking import mlflow_store
from cmtl_ir.tracking import store as tracking
from cmtl_ir.tracking.mlflow_store import EXPERIMENT
from cmtl_ir.tracking.store import Tracking, TrackingError, deliver, read_runs
from tests.tracking.cases import Server, free_port, history, run_of, train

# ------------------------------------------------------------------------------------------ making the store


FOUR = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from cmtl_ir.tracking.store import Tracking
from tests.tracking.cases import run_of, train
tracker = run_of(Tracking(None, Path(sys.argv[1])), "run" + sys.argv[2])
train(tracker, 0, 50)
assert tracker.finish()
"""


@pytest.mark.release
def test_four_processes_start_together_on_a_fresh_file(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", FOUR, str(tmp_path)]
    processes = [subprocess.Popen([*command, str(number), str(root)], cwd=root) for number in range(4)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    read = read_runs(tracking.local_uri(tmp_path), "quick")
    assert sorted(read["runs"]["run"]) == ["run0", "run1", "run2", "run3"] and len(read["curves"]) == 4 * 100
    assert read["runs"]["tags.mlflow.parentRunId"].nunique() == 1
    client = mlflow_store.connect(tracking.local_uri(tmp_path))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None and len(client.search_runs([experiment.experiment_id])) == 5


def test_a_half_made_store_of_a_dead_process_is_made_again(
    making: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_store, "_make_database", making)
    (tmp_path / ".mlflow.db.making").write_bytes(b"half")
    assert Tracking(None, tmp_path).parent("quick", {}, "")
    assert not (tmp_path / ".mlflow.db.making").exists()


def restamp(file: Path, version: str) -> str:
    import sqlite3

    with sqlite3.connect(file) as connection:
        before = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()
    return before


def test_an_older_store_is_backed_up_and_upgraded(store: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store.folder / "mlflow.db"
    newest = restamp(file, "75868b020152")
    monkeypatch.setattr("mlflow.store.db.utils._upgrade_db", lambda engine: restamp(file, newest))
    assert store.parent("quick", {}, "")
    (backup,) = store.folder.glob("mlflow.db.before-*")
    assert restamp(backup, newest) == "75868b020152"


def test_a_newer_store_is_refused_and_left_as_it_is(store: Tracking) -> None:
    restamp(store.folder / "mlflow.db", "ffffffffffff")
    with pytest.raises(TrackingError, match="ffffffffffff"):
        store.parent("quick", {}, "")
    assert restamp(store.folder / "mlflow.db", "x") == "ffffffffffff"


# ----------------------------------------------------------------------------------------------------- servers


def test_a_store_that_is_away_at_the_start_is_an_answer(tmp_path: Path) -> None:
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        Tracking(uri, tmp_path).parent("quick", {}, "")
    assert time.monotonic() - start < 30
    for said in ("http://user:***@127.0.0.1", "refused", "--offline", tracking.local_uri(tmp_path)):
        assert said in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["./mlruns", "nonsense://x", "sqlite:////proc/none/x.db"])
def test_an_unusable_uri_is_an_answer(uri: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="cannot be used"):
        Tracking(uri, tmp_path).parent("quick", {}, "")


@pytest.mark.error("tracking: a damaged database of its own")
def test_a_damaged_database_is_an_answer_at_once_with_a_way_out_that_exists(store: Tracking) -> None:
    tracker = run_of(store)
    train(tracker, 0, 3)
    tracker.finish()
    database = store.folder / "mlflow.db"
    whole, content = database.read_bytes(), b"no database" * 200
    database.write_bytes(content)
    start = time.monotonic()
    with pytest.raises(TrackingError, match=f"file is not a database.*move it away .mv {database}") as caught:
        run_of(Tracking(None, store.folder))
    assert "--offline" not in str(caught.value) and time.monotonic() - start < 10
    with pytest.raises(TrackingError, match="--tracking-uri") as caught:
        tracker.log(4, {"a": 1.0})
        deliver(store.folder)
    assert "--offline" not in str(caught.value)
    database.write_bytes(whole)
    assert deliver(store.folder) == 1 and len(read_runs(store.uri, "quick")["curves"]) == 7


@pytest.mark.error("tracking: a database that cannot be opened")
@pytest.mark.parametrize("kind", ["a folder", "text"])
def test_an_unusable_database_is_an_answer_at_once(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "x.db"
    place.mkdir() if kind == "a folder" else place.write_text("text " * 500)
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"cannot be used .*--offline"):
        Tracking(f"sqlite:///{place}", tmp_path / "out").parent("quick", {}, "")
    assert time.monotonic() - start < 10


def test_a_moved_folder_of_results_is_written_to_where_it_is(empty_store: Path, tmp_path: Path) -> None:
    from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(empty_store, old / "mlflow.db")
    first = run_of(Tracking(None, old))
    first.text("before", "a.txt")
    first.log(1, {"a": 1.0})
    assert first.finish("FINISHED")
    first.log(2, {"a": 2.0})  # not delivered before the folder is moved
    first._stop.set()
    old.rename(new)
    _artifact_repos_cache.clear()  # of MLflow in this process, in which no folder was moved
    assert deliver(new) == 1 and deliver(new) == 0
    moved = Tracking(None, new)
    again, other = run_of(moved), run_of(moved, "def")
    other.text("after", "b.txt")
    assert again.finish("FINISHED") and other.finish("FINISHED") and not old.exists()
    assert again.run_id == first.run_id and history(moved, again.run_id) == {"a": [(1, 1.0), (2, 2.0)]}
    client = moved._store.client
    for tracker, name in ((again, "a.txt"), (other, "b.txt")):
        run = client.get_run(tracker.run_id)
        assert run.info.artifact_uri.startswith((new / "mlartifacts").as_uri()) and run.info.status == "FINISHED"
        assert [file.path for file in client.list_artifacts(tracker.run_id)] == [name]


def test_a_store_that_is_gone_is_not_made_again_by_a_delivery(store: Tracking) -> None:
    tracker = run_of(store)
    tracker.log(1, {"a": 1.0})
    tracker._stop.set()
    (store.folder / "mlflow.db").unlink()
    with pytest.raises(
        TrackingError, match=r"there is no tracking store .* any more; name the store with --tracking-uri"
    ):
        deliver(store.folder)
    assert not (store.folder / "mlflow.db").exists()


@pytest.mark.release
@pytest.mark.skipif(os.name == "nt", reason="process groups")
def test_a_server_that_goes_away_and_comes_back(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Tracking(server.uri, tmp_path / "out")
    tracker = run_of(store)
    train(tracker, 0, 10)
    tracker.text("first", "first.txt")
    tracker.deliver()
    server.stop()
    train(tracker, 10, 20)
    tracker.text("second", "notes/second.txt")
    assert not tracker.finish("FINISHED")
    assert len(caplog.records) == 2 and "Training continues" in caplog.text and "cmtl-ir sync" in caplog.text
    server.start()
    assert deliver(store.folder) == 1 and deliver(store.folder) == 0
    train(reference := run_of(store, "reference"), 0, 20)
    reference.finish()
    assert history(store, tracker.run_id) == history(store, reference.run_id)
    client = store._store.client
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["first.txt", "notes"]
    caplog.set_level(logging.DEBUG, "cmtl_ir.tracking")
    read = read_runs(server.uri, "quick")
    assert "no bulk history" not in caplog.text
    local = read_runs(mlflow_store.sqlite_uri(server.folder / "mlflow.db"), "quick")
    pd.testing.assert_frame_equal(read["curves"], local["curves"])
    assert len(read["curves"]) == 80 and set(read["runs"]["label"]) == {"joint"}
    assert tracker._thread is None


def test_halves_of_uploads_are_swept_when_the_run_is_taken_up_again(store: Tracking, tmp_path: Path) -> None:
    tracker = run_of(store)
    (tracker.folder / "a.txt").write_text("whole")
    tracker.artifact(tracker.folder / "a.txt", "tables")
    assert tracker.finish(None)
    (whole,) = tmp_path.joinpath("mlartifacts").rglob("a.txt")
    halves = [place / f"{mlflow_store.UPLOADING}x1" for place in (whole.parent, whole.parent.parent)]
    for half in halves:
        half.write_bytes(b"ha")
    run_of(store)
    assert whole.read_text() == "whole" and not any(half.exists() for half in halves)
