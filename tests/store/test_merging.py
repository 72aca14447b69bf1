"""Comparisons are merged where they may stand in one table, and refused by the keys that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.store.listing import listed_runs
from cmtl_ir.store.merging import merge
from tests.analysis import forged
from tests.inference.files import command

SCORES = {"noise": 27.0, "rain": 25.0}


def made(out: Path, name: str, runs: list[tuple[str, int]], **kinds: Any) -> Path:
    """A comparison of this name that was never trained."""
    folder = forged.comparison(out, dict.fromkeys(runs, SCORES), strategies=kinds)
    named = folder.rename(folder.with_name(name))
    whole = {**yaml.read(named / "experiment.yaml"), "name": name, "evaluation": {"protocol": "promptir"}}
    whole["training"] = {**whole["training"], "keep_best": {"on": "mean_psnr"}}
    (named / "experiment.yaml").write_text(yaml.dump(whole))
    return named


def test_the_runs_of_two_comparisons_stand_in_one_report(tmp_path: Path) -> None:
    one = made(tmp_path, "one", [("joint", 0), ("late", 0)])
    other = made(tmp_path, "other", [("joint", 1), ("late", 1)], late=forged.strategy("sequential"))
    assert command("report", "one", "other", "--out", tmp_path, "--format", "md") == 0
    merged = tmp_path / "one_and_other"
    rows = {(row["label"], row["seed"]) for row in listed_runs(merged)}
    assert rows == {("joint", 0), ("joint", 1), ("late", 0), ("late_other", 1)}
    assert yaml.read(merged / "experiment.yaml")["seeds"] == [0, 1]
    report = (merged / "report/report.md").read_text()
    assert "late_other" in report and "the evaluation that was best on validation images, not of the last" in report
    assert merge([one, other]) == merged, "again"


@pytest.mark.error("report: comparisons that differ")
def test_comparisons_that_differ_are_refused(tmp_path: Path) -> None:
    folders = [made(tmp_path, name, [(name, 0)]) for name in ("one", "other")]
    file = folders[1] / "experiment.yaml"
    file.write_text(file.read_text().replace("steps: 60", "steps: 90"))
    with pytest.raises(UserError, match=r"other cannot be compared with one: it differs in training\.steps; report"):
        merge(folders)
    with pytest.raises(UserError, match="is named twice"):
        merge([folders[0], folders[0]])
    assert not (tmp_path / "one_and_other").exists()
