"""Claims about grouped strategies in a report: who shares a model, who finds it, what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.analysis import report
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.tables import grouping, scores
from tests.analysis import forged

FINAL = {(label, 0): {"noise": 26.0, "rain": 25.0} for label in ("joint", "grids", "told")}
GROUPS = [{"tasks": ["noise", "rain"], "serves": ["noise"]}, {"tasks": ["rain"], "serves": ["rain"]}]
ACCURACY = {"own": {"task": 0.75, "group": 0.8}, "mmd": {"task": 0.5, "group": 0.6}}


def result(accuracy: dict[str, Any]) -> dict[str, Any]:
    found = {
        "groups": GROUPS,
        "accuracy": {**accuracy, "chance": {"task": 0.5, "group": 0.5}},
        "psnr_oracle": {"noise": 27.0, "rain": 26.0},
        "cost": {"models": 2, "router": 100, "stored": 2568, "run_per_image": 1334.0},
    }
    return {"psnr": {"noise": 26.0, "rain": 25.0}, "grouping": found, "parameters": 2568}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    results = {("grids", 0): result(ACCURACY), ("told", 0): result({})}
    return Study.of(Frames.of_folder(forged.comparison(tmp_path, FINAL, results=results)))


def test_a_line_a_grouped_run_and_none_for_others(study: Study) -> None:
    table = grouping.group_table(study)
    assert table is not None and table in scores.all_tables(study)
    grids, told = [[cell.text for cell in row] for row in table.rows]
    assert grids == [
        "grids",
        "noise + (rain) | rain",
        "0",
        "0.75",
        "0.80",
        "0.50",
        "25.50",
        "26.50",
        "2",
        "2,568",
        "1,334",
    ]
    assert told[3:5] == ["–", "–"]


def test_a_further_metric_has_its_means_and_a_run_without_it_dashes(tmp_path: Path) -> None:
    scored = result(ACCURACY)
    scored["mae"], scored["grouping"]["mae_oracle"] = {"noise": 24.0, "rain": 25.0}, {"noise": 23.0, "rain": 24.5}
    folder = forged.comparison(
        tmp_path, FINAL, results={("grids", 0): scored, ("told", 0): result({})}, with_mae=("grids",)
    )
    table = grouping.group_table(Study.of(Frames.of_folder(folder)))
    assert table is not None
    at = [table.headings.index(heading) for heading in ("mean MAE levels", "MAE task given")]
    assert [[row[place].text for place in at] for row in table.rows] == [["24.500", "23.750"], ["–", "–"]]


def test_every_table_is_on_the_page(study: Study) -> None:
    made = scores.all_tables(study)
    text = report.page(study, made, [])
    assert [table.name for table in made if f'id="table-{table.name}"' not in text] == []


def test_without_groups_there_is_no_table(tmp_path: Path) -> None:
    assert grouping.group_table(Study.of(Frames.of_folder(forged.comparison(tmp_path, FINAL)))) is None


def test_a_grouped_run_counts_all_that_it_stores(study: Study) -> None:
    (row,) = [row for row in scores.cost_table(study).rows if row[0].text == "grids"]
    assert row[2].value == 2568
