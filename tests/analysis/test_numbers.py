"""Claims about numbers: every one in a table is recomputed from raw scores by another route."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cmtl_ir.analysis import report
from cmtl_ir.analysis.data import measures, significance
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.summary import summary
from cmtl_ir.analysis.tables import formats, scores
from cmtl_ir.analysis.tables.formats import Cell, Table
from cmtl_ir.measures.scale import PSNR, SSIM
from tests.analysis import forged

FINAL = {
    ("joint", 0): {"noise": 27.0, "rain": 25.0},
    ("joint", 1): {"noise": 27.4, "rain": 25.2},
    ("joint", 2): {"noise": 27.1, "rain": 25.9},
    ("sequential", 0): {"noise": 21.0, "rain": 26.0},
    ("sequential", 1): {"noise": 22.5, "rain": 25.8},
    ("sequential", 2): {"noise": 20.0, "rain": 26.3},
    ("single_noise", 0): {"noise": 28.0, "rain": 17.0},
    ("single_noise", 1): {"noise": 28.2, "rain": 17.5},
    ("single_rain", 0): {"noise": 17.0, "rain": 27.0},
}
STAGES = {"sequential": [{"noise": 27.5, "rain": 17.0}, {"noise": 21.0, "rain": 26.0}]}
STRATEGIES = {
    "sequential": forged.strategy("sequential"),
    "single_noise": forged.strategy("single", task="noise"),
    "single_rain": forged.strategy("single", task="rain"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("numbers")
    return forged.comparison(home, FINAL, images=24, strategies=STRATEGIES, stages=STAGES)


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return Study.of(Frames.of_folder(folder))


@pytest.fixture(scope="module")
def raw(folder: Path) -> pd.DataFrame:
    """All per_image.csv in one frame, read by pandas alone."""
    rows = json.loads((folder / "runs.json").read_text())
    read = [pd.read_csv(folder.parent / "store" / r["hash"] / "per_image.csv").assign(**r) for r in rows]
    return pd.concat(read)


def cell(table: Table, label: str, heading: str, second: str | None = None) -> Cell:
    """The cell of a row, found by its first words."""
    found = [row for row in table.rows if row[0].text == label and second in (None, row[1].text)]
    assert len(found) == 1, [row[0].text for row in table.rows]
    return found[0][list(table.headings).index(heading)]


def same_interval(shown: Cell, sample: pd.Series) -> None:
    assert shown.value == pytest.approx(sample.mean(), rel=1e-12)
    low, high = stats.t.interval(0.95, len(sample) - 1, sample.mean(), stats.sem(sample))
    assert (shown.low, shown.high) == pytest.approx((low, high), rel=1e-9)
    assert shown.text == f"{sample.mean():.2f} ± {(high - low) / 2:.2f}"


@pytest.mark.parametrize("label", ["joint", "sequential"])
@pytest.mark.parametrize("task", forged.TASKS)
def test_a_score_is_the_mean_over_images_then_the_t_interval_over_seeds(
    study: Study, raw: pd.DataFrame, label: str, task: str
) -> None:
    shown = cell(scores.score_table(study, PSNR), label, task)
    same_interval(shown, raw[(raw.label == label) & (raw.task == task)].groupby("seed").psnr.mean())


@pytest.mark.parametrize("label", ["joint", "sequential"])
def test_the_mean_over_tasks_weighs_every_task_the_same(study: Study, raw: pd.DataFrame, label: str) -> None:
    per_seed = raw[raw.label == label].pivot_table(index="seed", columns="task", values="psnr").mean(axis=1)
    same_interval(cell(scores.score_table(study, PSNR), label, "mean"), per_seed)


def test_the_input_and_the_references_have_their_rows(study: Study, raw: pd.DataFrame) -> None:
    table = scores.score_table(study, PSNR)
    assert cell(table, "(degraded input)", "rain").value == pytest.approx(raw[raw.task == "rain"].psnr_input.mean())
    same_interval(
        cell(table, "(single-task runs)", "noise"),
        raw[(raw.label == "single_noise") & (raw.task == "noise")].groupby("seed").psnr.mean(),
    )
    assert cell(table, "(single-task runs)", "rain").low is None  # one seed has no interval
    assert [row[0].text for row in table.rows] == ["(degraded input)", "joint", "sequential", "(single-task runs)"]


def test_ssim_has_four_digits(study: Study, raw: pd.DataFrame) -> None:
    shown = cell(scores.score_table(study, SSIM), "joint", "noise")
    per_seed = raw[(raw.label == "joint") & (raw.task == "noise")].groupby("seed").ssim.mean()
    assert shown.value == pytest.approx(per_seed.mean()) and shown.text.startswith(f"{per_seed.mean():.4f} ± ")


def test_what_follows_from_the_matrix_r(study: Study, raw: pd.DataFrame) -> None:
    (first, last) = STAGES["sequential"]
    found = measures.of_runs(study.frames).set_index(["label", "seed"]).loc[("sequential", 0)]
    assert found["average"] == pytest.approx((last["noise"] + last["rain"]) / 2)
    assert found["worst_task"] == pytest.approx(last["noise"])
    assert found["forgetting"] == pytest.approx(first["noise"] - last["noise"])
    assert found["backward_transfer"] == pytest.approx(last["noise"] - first["noise"])
    floor = raw[raw.task == "rain"].psnr_input.mean()
    assert found["forward_transfer"] == pytest.approx(first["rain"] - floor)
    assert found["intransigence"] == pytest.approx(((28.0 - first["noise"]) + (27.0 - last["rain"])) / 2)
    assert found["delta_db"] == pytest.approx(((last["noise"] - 28.0) + (last["rain"] - 27.0)) / 2)
    assert found["delta_m_gain"] == pytest.approx(50 * ((last["noise"] - 28) / 28 + (last["rain"] - 27) / 27))


def test_the_harm_rate_is_counted_on_images(study: Study, raw: pd.DataFrame) -> None:
    own = raw[(raw.label == "sequential") & (raw.seed == 2)]
    found = measures.of_runs(study.frames).set_index(["label", "seed"]).loc[("sequential", 2)]
    assert 0 < found["harm_rate"] == pytest.approx((own.psnr < own.psnr_input).mean())


def test_a_seed_without_its_reference_has_no_difference_to_it(study: Study) -> None:
    found = measures.of_runs(study.frames).set_index(["label", "seed"])
    assert np.isnan(found.loc[("joint", 1), "delta_db"]) and not np.isnan(found.loc[("joint", 0), "delta_db"])
    shown = cell(scores.measure_table(study, PSNR), "joint", "Δ single-task")
    assert shown.value == pytest.approx(found.loc[("joint", 0), "delta_db"]) and shown.low is None


def test_significance_is_scipys_wilcoxon_on_images_with_holm(study: Study, raw: pd.DataFrame) -> None:
    means = raw[raw.label.isin(["joint", "sequential"])].groupby(["label", "task", "image"]).psnr.mean()
    differences = {task: means["sequential"][task] - means["joint"][task] for task in forged.TASKS}
    differences["mean"] = sum(differences.values()) / 2
    p = {task: stats.wilcoxon(one).pvalue for task, one in differences.items()}
    order = sorted(p, key=lambda task: p[task])
    holm, before = {}, 0.0
    for place, task in enumerate(order):  # Holm 1979, step by step
        before = holm[task] = min(1.0, max(before, (len(p) - place) * p[task]))
    assert set(study.verdicts()) == {("sequential", task) for task in p}
    for (_, task), verdict in study.verdicts().items():
        assert verdict.test.p == pytest.approx(p[task]) and verdict.test.p_holm == pytest.approx(holm[task])
        assert verdict.difference.estimate == pytest.approx(differences[task].mean())
        assert verdict.difference.n == 24
        expected = stats.bootstrap((differences[task],), np.mean, method="BCa", rng=np.random.default_rng(0))
        ends = expected.confidence_interval
        assert (verdict.difference.low, verdict.difference.high) == pytest.approx(
            (ends.low, ends.high), abs=0.01
        )  # other resamples


def test_bold_stands_only_where_the_difference_is_significant(study: Study) -> None:
    table = scores.score_table(study, PSNR)
    assert cell(table, "sequential", "noise").style == "worse" and cell(table, "sequential", "rain").style == "better"
    assert all(one.style == "" for row in table.rows if row[0].text != "sequential" for one in row)


def test_seven_images_cannot_carry_three_comparisons_of_one_strategy_but_not_of_two(tmp_path: Path) -> None:
    """2^(1 - n) <= .05 / m: 7 images carry 3 comparisons, not 6."""
    one = forged.comparison(
        tmp_path / "one", {k: v for k, v in FINAL.items() if k[0] in ("joint", "sequential")}, images=7
    )
    assert all(not verdict.test.reason for verdict in Study.of(Frames.of_folder(one)).verdicts().values())
    two = {**FINAL, ("other", 0): {"noise": 23.0, "rain": 20.0}}
    both = forged.comparison(tmp_path / "two", {k: v for k, v in two.items() if "single" not in k[0]}, images=7)
    found = Study.of(Frames.of_folder(both)).verdicts()
    assert len(found) == 6 and all("too few to test" in verdict.test.reason for verdict in found.values())
    assert all(
        row.style == "" for line in scores.score_table(Study.of(Frames.of_folder(both)), PSNR).rows for row in line
    )


def test_noise_levels_are_no_independent_images(study: Study) -> None:
    pairs = significance.paired(significance.per_image(study.frames), "sequential", "joint")
    assert len(pairs["noise"]) == 24  # 48 rows of two noise levels


def test_the_cost_is_seconds_by_steps(tmp_path: Path) -> None:
    results = {
        ("joint", 0): {"seconds": 3.0},
        ("slow", 0): {"seconds": 9.0, "step_seconds": 6.0, "peak_memory_bytes": 5e6},
    }
    final = {("joint", 0): {"noise": 27.0, "rain": 25.0}, ("slow", 0): {"noise": 27.0, "rain": 25.0}}
    study = Study.of(Frames.of_folder(forged.comparison(tmp_path, final, results=results)))
    table = scores.cost_table(study)
    assert cell(table, "joint", "ms per step").value == pytest.approx(1e3 * 3.0 / 60)
    assert cell(table, "slow", "ms per step").value == pytest.approx(1e3 * 6.0 / 60)
    assert cell(table, "slow", "ms / joint").value == pytest.approx(2.0)
    assert cell(table, "slow", "peak memory MB").value == pytest.approx(5.0)
    assert cell(table, "slow", "parameters").value == 1234


def test_cpu_time_comes_first_where_all_runs_have_it_and_passes_are_by_the_batch(tmp_path: Path) -> None:
    final = {("joint", 0): {"noise": 27.0, "rain": 25.0}, ("slow", 0): {"noise": 27.0, "rain": 25.0}}
    one = {"step_seconds": 9.0, "step_cpu_seconds": 3.0, "samples_forward": 360, "samples_backward": 360}
    other = {"step_seconds": 6.0, "step_cpu_seconds": 4.5, "samples_forward": 720, "samples_backward": 360}
    results = {("joint", 0): one, ("slow", 0): other}
    study = Study.of(Frames.of_folder(forged.comparison(tmp_path, final, results=results)))
    table = scores.cost_table(study)
    assert cell(table, "slow", "CPU ms per step").value == pytest.approx(1e3 * 4.5 / 60)
    assert cell(table, "slow", "CPU ms / joint").value == pytest.approx(1.5)
    assert cell(table, "slow", "wall ms per step").value == pytest.approx(1e3 * 6.0 / 60)
    assert cell(table, "slow", "forward passes").value == pytest.approx(2.0)  # 60 steps of 6 samples
    assert cell(table, "slow", "backward passes").value == pytest.approx(1.0)
    assert "Cheapest: joint, 50 CPU ms per step; dearest: slow, 1.50 times that." in summary(study)
    results[("slow", 0)] = other | {"step_cuda_seconds": 1.0}
    mixed = Study.of(Frames.of_folder(forged.comparison(tmp_path / "mixed", final, results=results)))
    assert cell(scores.cost_table(mixed), "slow", "ms per step").value == pytest.approx(1e3 * 6.0 / 60)


def test_the_csv_holds_full_precision_and_the_ends(study: Study, raw: pd.DataFrame, tmp_path: Path) -> None:
    from cmtl_ir.analysis.tables.formats import comma_separated

    (tmp_path / "psnr.csv").write_text(comma_separated(scores.score_table(study, PSNR)))
    with (tmp_path / "psnr.csv").open() as file:
        rows = {row["strategy"]: row for row in csv.DictReader(file)}
    per_seed = raw[(raw.label == "joint") & (raw.task == "noise")].groupby("seed").psnr.mean()
    assert float(rows["joint"]["noise"]) == pytest.approx(per_seed.mean(), rel=1e-14)
    low, high = stats.t.interval(0.95, 2, per_seed.mean(), stats.sem(per_seed))
    assert (float(rows["joint"]["noise low"]), float(rows["joint"]["noise high"])) == pytest.approx((low, high))


def test_a_table_of_many_lines_is_named_in_the_text_and_written_whole(study: Study) -> None:
    few = Table("few", "Few", ["strategy"], [[Cell("of few")]] * report.LONG)
    many = Table("many", "Many", ["strategy"], [[Cell("of many")]] * (report.LONG + 1))
    text = report.markdown(study, [few, many], [])
    assert text.count("| of few |") == report.LONG and "of many" not in text
    assert f"{report.LONG + 1} lines: [tables/many.md](tables/many.md)" in text


def test_a_whole_number_reads_the_same_in_the_text_and_in_the_csv() -> None:
    cell = formats.number(66.7, 0)
    assert (cell.text, cell.value) == ("67", 67)
