"""A report from a tracking server that shares no disk with the reader, and back into it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cmtl_ir.analysis.data import sources
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.tracking import mlflow_store
from cmtl_ir.tracking.store import Tracking
from tests.analysis import forged
from tests.tracking.cases import Server

FINAL = {(label, seed): {"noise": 26.0 + seed, "rain": 25.0} for label in ("joint", "pcgrad") for seed in (0, 1)}


@pytest.mark.release  # stores as files are read in test_commands.py, and a server is written to in tests/tracking
def test_a_report_is_read_from_a_server_and_logged_back_to_it(server: Server, tmp_path: Path) -> None:
    """Scores come as artifacts over HTTP; a run that is not finished is said to be so."""
    folder = forged.comparison(tmp_path / "runs", FINAL)
    here = Frames.of_folder(folder)
    tracking = Tracking(server.uri, tmp_path / "runs")
    parent = tracking.parent("forged", {}, (folder / "experiment.yaml").read_text())
    for member in here.members:
        home = tmp_path / "runs" / "store" / member.run
        tracker = tracking.run(
            member.run, name=member.label, parent=parent, comparison="forged", label=member.label,
            params={"seed": member.seed}, folder=home,
        )  # fmt: skip
        for name in ("per_image.csv", "curve.csv", "config.yaml"):
            tracker.artifact(home / name)
        is_last = member is here.members[-1]
        assert tracker.finish(None if is_last else "FINISHED")
    there = Frames.of_store(server.uri, "forged")
    assert [one.status for one in there.members] == ["finished"] * 3 + ["unfinished"]
    own = here.images[(here.images["label"] != "pcgrad") | (here.images["seed"] != 1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(there.images, own)
    assert there.experiment == here.experiment
    (tmp_path / "figure.png").write_bytes(b"drawn")
    answer = sources.log_files(server.uri, "forged", {"report/figures": [tmp_path / "figure.png"]})
    assert answer == f"logged to {server.uri}, run {parent}"
    listed = mlflow_store.connect(server.uri).list_artifacts(parent, "report/figures")
    assert [one.path for one in listed] == ["report/figures/figure.png"]
    server.stop()
    assert sources.log_files(server.uri, "forged", {}).startswith("not logged: ")
