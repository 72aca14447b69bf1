"""Runs written to a real MLflow store are found again, joined to comparisons, and read back as they were logged."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cmtl_ir.tracking import frames, mlflow_store
from cmtl_ir.tracking import store as tracking
from cmtl_ir.tracking.mlflow_store import REPLACED
from cmtl_ir.tracking.store import Tracking, TrackingError, read_runs
from tests.tracking.cases import history, run_of, train

# -------------------------------------------------------------------------------------------- runs and parents


def test_importing_is_cheap() -> None:
    code = "import sys, cmtl_ir.tracking; assert not {'mlflow', 'pandas', 'sqlalchemy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_telemetry_is_off_before_mlflow_is_imported() -> None:
    code = (
        "import sys, os; from cmtl_ir.tracking import mlflow_store\n"
        "try: mlflow_store.connect('nonsense://x')\nexcept Exception: pass\n"
        "import mlflow.telemetry.utils as t; assert t.is_telemetry_disabled(); assert os.environ['DO_NOT_TRACK']"
    )
    environment = {k: v for k, v in os.environ.items() if k not in mlflow_store.ENVIRONMENT and k != "CI"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_run_is_read_back_as_logged(store: Tracking) -> None:
    tracker = run_of(store, tags={"device": "cpu"})
    tracker.log(1, {"loss/rain": 0.1, "psnr/rain": math.inf})
    tracker.log(2, {"loss/rain": math.nan, "x": -math.inf})
    tracker.text("hello", "notes/a.md")
    assert tracker.finish("FINISHED")
    read = read_runs(store.uri, "quick")
    row = read["runs"].iloc[0]
    assert len(read["runs"]) == 1
    assert (row["run"], row["label"], row["status"], row["name"]) == ("abc", "joint", "FINISHED", "joint-seed0")
    assert (row["params.lr"], row["params.surgery"], row["tags.device"]) == ("0.001", "None", "cpu")
    assert row["metrics.psnr/rain"] == 100.0 and math.isnan(row["metrics.loss/rain"]) and row["end"] >= row["start"]
    expected = [("abc", "loss/rain", 1, 0.1), ("abc", "loss/rain", 2, math.nan), ("abc", "psnr/rain", 1, 100.0)]
    pd.testing.assert_frame_equal(
        read["curves"], pd.DataFrame(expected, columns=["run", "metric", "step", "value"]), check_dtype=False
    )
    client = store._store.client
    assert [file.path for file in client.list_artifacts(tracker.run_id, "notes")] == ["notes/a.md"]


def test_parents_and_runs_are_found_again(store: Tracking) -> None:
    first, again = run_of(store), run_of(store, params={"lr": 5.0, "new": 1})
    assert first.run_id == again.run_id
    assert store.parent("quick", {}, "a: 2\n") == store.parent("quick", {}, "a: 2\n")
    client = store._store.client
    run = client.get_run(again.run_id)
    assert run.data.params == {"lr": "0.001", "surgery": "None", "new": "1"}
    parent = run.data.tags["mlflow.parentRunId"]
    assert client.get_run(parent).info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(parent)] == ["experiment.yaml"]
    assert len(client.search_runs([store._store.experiment_id])) == 2


def test_a_run_of_two_comparisons_is_one_run(store: Tracking) -> None:
    first = run_of(store)
    other = run_of(store, comparison="second", label="all together", parent=store.parent("second", {}, ""))
    run_of(store, "def", comparison="second", label="pcgrad")
    assert first.run_id == other.run_id
    tags = store._store.client.get_run(first.run_id).data.tags
    assert (tags["in.quick"], tags["in.second"]) == ("joint", "all together")
    assert tags["mlflow.parentRunId"] == store.parent("quick", {}, "")
    assert list(read_runs(store.uri, "quick")["runs"]["label"]) == ["joint"]
    assert set(read_runs(store.uri, "second")["runs"]["label"]) == {"all together", "pcgrad"}


def test_training_anew_in_an_empty_folder_replaces_the_run(store: Tracking) -> None:
    old = run_of(store)
    train(old, 0, 3)
    old.finish()
    old.folder.rename(old.folder.with_name("aside"))
    new = run_of(store)
    assert new.run_id != old.run_id
    new.log(1, {"loss/rain": 7.0})
    new.finish()
    read = read_runs(store.uri, "quick")
    assert list(read["runs"]["run_id"]) == [new.run_id] and list(read["curves"]["value"]) == [7.0]
    assert store._store.client.get_run(old.run_id).data.tags[REPLACED] == "abc"


def test_a_deleted_run_is_made_anew_and_gets_the_whole_journal(store: Tracking) -> None:
    old = run_of(store)
    train(old, 0, 3)
    old.text("x", "a.txt")
    old.finish()
    store._store.client.delete_run(old.run_id)
    new = run_of(store)
    assert new.run_id != old.run_id and new.finish()
    assert history(store, new.run_id) == history(store, old.run_id)
    assert [file.path for file in store._store.client.list_artifacts(new.run_id)] == ["a.txt"]


def test_many_params_and_odd_values(store: Tracking) -> None:
    tracker = run_of(store, params={f"p{n}": n for n in range(250)} | {"long": "x" * 9000, "empty": ""})
    params = store._store.client.get_run(tracker.run_id).data.params
    assert len(params) == 252 and len(params["long"]) == 6000


@pytest.mark.parametrize("name", ["it's", "a`b", "x|y"])
def test_comparisons_with_names_that_mlflow_refuses(name: str, store: Tracking) -> None:
    with pytest.raises(TrackingError, match="cannot name"):
        store.parent(name, {}, "")


def test_a_tracking_store_travels_to_other_processes(store: Tracking) -> None:
    parent = store.parent("quick", {}, "")
    assert pickle.loads(pickle.dumps(store)).parent("quick", {}, "") == parent


def test_folders_with_odd_names(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = Tracking(None, tmp_path / "a b#c%20dü")
    odd.folder.mkdir()
    shutil.copy(empty_store, odd.folder / "mlflow.db")
    tracker = run_of(odd)
    tracker.log(1, {"a": 1.0})
    tracker.text("x", "a.txt")
    assert tracker.finish() and len(read_runs(odd.uri, "quick")["curves"]) == 1
    assert any(odd.folder.joinpath("mlartifacts").rglob("a.txt"))


# ---------------------------------------------------------------------------------------------------- reading


def test_nothing_to_read_is_two_empty_frames(store: Tracking) -> None:
    store.parent("quick", {}, "")
    for comparison in ("quick", "unknown"):
        read = read_runs(store.uri, comparison)
        assert list(read["runs"].columns) == frames.HEAD and len(read["runs"]) == 0
        assert list(read["curves"].columns) == ["run", "metric", "step", "value"] and len(read["curves"]) == 0


def test_a_missing_store_is_an_answer_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="there is no tracking store"):
        read_runs(tracking.local_uri(tmp_path), "quick")
    assert not list(tmp_path.iterdir())


def test_every_way_of_reading_gives_the_same_points(store: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        tracker = run_of(store, f"run{number}")
        train(tracker, 0, 4 + number)
        tracker.log(9, {"psnr/only": math.nan} if number else {"psnr/x": 1.0})
        tracker.finish()
    client = store._store.client
    runs = frames.all_runs(client, store._store.experiment_id, "in.quick")

    def bulk(name: str, run_ids: list[str]) -> list[dict[str, Any]]:
        points = [(i, m) for i in run_ids for m in client.get_metric_history(i, name)]
        return [{"run_id": i, "key": name, "step": m.step, "value": m.value} for i, m in points]

    def missing(name: str, run_ids: list[str]) -> list[dict[str, Any]]:
        raise RuntimeError("404")

    engine = client._tracking_client.store.engine
    by_sql = frames.curves_frame(runs, frames.points_by_sql(engine, runs))
    by_bulk = frames.curves_frame(runs, frames.points_by_metric(client, runs, bulk))
    one_by_one = frames.curves_frame(runs, frames.points_by_metric(client, runs, missing))
    monkeypatch.setattr(frames, "MOST", 5)
    cut_off = frames.curves_frame(runs, frames.points_by_metric(client, runs, bulk))
    assert len(by_sql) == 2 * (4 + 5 + 6) + 3
    for other in (by_bulk, one_by_one, cut_off):
        pd.testing.assert_frame_equal(by_sql, other)


# ---------------------------------------------------------------------------------------- resuming and killing


def test_a_resumed_run_has_the_unbroken_runs_history(store: Tracking) -> None:
    train(unbroken := run_of(store, "unbroken"), 0, 30)
    unbroken.finish()
    train(killed := run_of(store, "killed"), 0, 17)
    killed.deliver()
    resumed = run_of(store, "killed")
    resumed.rewind(10)
    train(resumed, 10, 30)
    resumed.finish()
    assert resumed.run_id == killed.run_id
    assert history(store, resumed.run_id) == history(store, unbroken.run_id)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from cmtl_ir.tracking.store import Tracking
from tests.tracking.cases import run_of, train
from cmtl_ir.tracking.journal import Delivery
store = Tracking(None, Path(sys.argv[1]))
tracker = run_of(store, "killed")
train(tracker, 0, 12)
send = tracker.store.send
def send_and_die(run_id, points):
    send(run_id, points)
    os.kill(os.getpid(), signal.SIGKILL)
tracker.store.send = send_and_die
train(tracker, 12, 17)
tracker.finish()
"""


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_kill_9_between_delivery_and_mark(store: Tracking) -> None:
    train(unbroken := run_of(store, "unbroken"), 0, 30)
    unbroken.finish()
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.folder), str(root)], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert tracking.Delivery.read(store.folder / "store" / "killed").arrived == 0
    resumed = run_of(store, "killed")
    assert len(history(store, resumed.run_id)["loss/rain"]) == 17
    resumed.rewind(10)
    train(resumed, 10, 30)
    assert resumed.finish()
    assert history(store, resumed.run_id) == history(store, unbroken.run_id)
    assert store._store.client.get_run(resumed.run_id).info.status == "FINISHED"
