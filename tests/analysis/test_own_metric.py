"""A metric of one's own appears wherever PSNR does, and its direction is respected.

The metric is PSNR's mirror image, 50 - PSNR, of which less is better: whatever is said of it must be what is said of
PSNR, with the sign of nothing but the scores reversed.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cmtl_ir.analysis import report
from cmtl_ir.analysis.data import measures
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.figures.captions import of_metric
from cmtl_ir.analysis.pair import compared
from cmtl_ir.analysis.summary import summary
from cmtl_ir.analysis.tables import scores
from cmtl_ir.analysis.tables.formats import Table
from cmtl_ir.cli.display import report as display_report
from cmtl_ir.measures.scale import PSNR
from tests.analysis import forged
from tests.analysis.forged import MAE, MIRROR

STAGES = {"sequential": [{"noise": 28.0, "rain": 19.0}, {"noise": 22.0, "rain": 27.0}]}
FINAL = {
    ("joint", 0): {"noise": 26.0, "rain": 25.0},
    ("joint", 1): {"noise": 26.5, "rain": 25.5},
    ("sequential", 0): {"noise": 22.0, "rain": 27.0},
    ("sequential", 1): {"noise": 22.0, "rain": 27.0},
}


def made(home: Path, with_mae: tuple[str, ...] = ("joint", "sequential")) -> Study:
    strategies = {"sequential": forged.strategy("sequential")}
    folder = forged.comparison(home, FINAL, images=24, strategies=strategies, stages=STAGES, with_mae=with_mae)
    return Study.of(Frames.of_folder(folder))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return made(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def tables(study: Study) -> dict[str, Table]:
    return {table.name: table for table in scores.all_tables(study)}


def test_the_table_of_scores_has_its_values_unit_and_direction(tables: dict[str, Table]) -> None:
    mine, theirs = tables["mae"], tables["psnr"]
    assert mine.title == "MAE in levels per task" and "MAE: lower is better." in mine.notes
    for own, other in zip(mine.rows, theirs.rows, strict=True):
        for one, two in zip(own[2:], other[2:], strict=True):
            assert one.value is not None and two.value is not None
            assert one.value == pytest.approx(MIRROR - two.value) and one.style == two.style
    assert {cell.style for row in mine.rows for cell in row} == {"", "better", "worse"}


def test_the_verdicts_are_those_of_psnr(study: Study, tables: dict[str, Table]) -> None:
    for key, verdict in study.verdicts(MAE).items():
        other = study.verdicts()[key]
        assert verdict.style == other.style and verdict.test.p_holm == pytest.approx(other.test.p_holm)
        assert verdict.difference.estimate == pytest.approx(-other.difference.estimate)
    assert study.verdicts(MAE)["sequential", "noise"].style == "worse"
    words = [row[-1].text for row in tables["significance_mae"].rows]
    assert words == [row[-1].text for row in tables["significance"].rows]


def test_forgetting_and_transfer_are_those_of_psnr(study: Study, tables: dict[str, Table]) -> None:
    mine, theirs = study.measures_of(MAE).set_index(["label", "seed"]), study.measures.set_index(["label", "seed"])
    for measure in measures.MEASURES:
        expected = theirs[measure]
        if measure in ("average", "worst_task"):
            expected = MIRROR - expected
        if measure != "delta_m_gain":
            assert mine[measure].to_numpy() == pytest.approx(expected.to_numpy(), nan_ok=True), measure
    assert mine.loc[("sequential", 0), "forgetting"] == pytest.approx(6.0)
    notes = " ".join(tables["continual_mae"].notes)
    assert "forgetting: the final MAE minus best MAE after an earlier stage" in notes and "highest final MAE" in notes


def test_the_summary_calls_the_lowest_best(study: Study) -> None:
    best, last = study.ranking
    (said,) = [sentence for sentence in summary(study) if sentence.startswith("By MAE")]
    means = study.measures_of(MAE).groupby("label")["average"].mean()
    assert means[best] < means[last]
    assert said == (
        f"By MAE, {best} is best (lowest mean, {means[best]:.3f} levels) and {last} worst ({means[last]:.3f} levels)."
    )


def test_page_text_figures_and_files_have_it(study: Study, tmp_path: Path) -> None:
    written = report.write(study.frames, tmp_path / "report")
    names = {figure.name for figure in written.figures}
    assert {"curves_mae", "forgetting_mae", "gains_mae", "matrices_mae"} <= names
    page, text = ((tmp_path / "report" / f"report.{kind}").read_text() for kind in ("html", "md"))
    for name in ("mae", "significance_mae", "continual_mae"):
        assert f'id="table-{name}"' in page and (tmp_path / "report" / "tables" / f"{name}.csv").is_file()
    for name in ("curves_mae", "forgetting_mae", "gains_mae", "matrices_mae"):
        assert f'id="figure-{name}"' in page and f"figures/{name}.png" in text
    assert page.index('id="table-psnr"') < page.index('id="table-mae"')
    assert "mean MAE levels" in text and text.index("### PSNR in dB per task") < text.index(
        "### MAE in levels per task"
    )
    table = report.runs_table(study)
    mine, theirs = (table.headings.index(heading) for heading in ("mean MAE levels", "mean PSNR dB"))
    for row in table.rows:
        assert row[mine].value is not None and row[theirs].value is not None
        assert row[mine].value == pytest.approx(MIRROR - row[theirs].value)


def test_compare_shows_it_with_its_verdict(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    homes = {member.label: Path(str(member.file("result.json"))).parent for member in study.frames.members}
    pair = compared({0: homes["joint"]}, {0: homes["sequential"]}, ("joint", "sequential"))
    assert list(pair.scores) == list(study.scales)
    for task, verdict in pair.verdicts[MAE].items():
        assert verdict.style == pair.verdicts[PSNR][task].style
    assert pair.verdicts[MAE]["noise"].style == "worse" and pair.verdicts[MAE]["rain"].style == "better"
    display_report.compared(pair)
    assert "MAE levels, lower is better" in capsys.readouterr().out


def test_a_strategy_that_was_not_scored_by_it_has_dashes(tmp_path: Path) -> None:
    study = made(tmp_path, with_mae=("joint",))
    table = scores.score_table(study, MAE)
    joint, sequential = (next(row for row in table.rows if row[0].text == label) for label in study.labels)
    assert all(cell.value is not None for cell in joint[2:])
    assert all(cell.text == "–" for cell in sequential[2:])
    assert len(scores.all_tables(study)) > 6 and all("By MAE" not in sentence for sentence in summary(study))
    for name, (_, _, draw) in of_metric(MAE).items():
        assert bool(draw(study, tmp_path / name)) == (name in ("curves", "gains")), "joint has one stage to look at"
