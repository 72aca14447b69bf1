"""Claims about suites of a trained run: they agree with the ordinary evaluation, and change nothing of it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from cmtl_ir.analysis import beyond
from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.data.suites import of_strategies
from cmtl_ir.analysis.figures.severity import severity_curves
from cmtl_ir.analysis.tables.suites import suite_tables
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.inference import restoration, suite_files
from cmtl_ir.runs import comparison
from cmtl_ir.store.lookup import find_run
from cmtl_ir.suites.summary import summaries
from cmtl_ir.training.loop import train
from tests import tiny
from tests.inference.files import command
from tests.tasks.files import pattern, write

LEVELS = {"haze": {"degradation": "haze", "severity": 4}}


def experiment(**evaluation: object) -> Experiment:
    strategies = {
        "joint": {},
        "without_rain": {"curriculum": {"name": "joint", "without": ["rain"]}},
        "single_haze": {"curriculum": {"name": "single", "task": "haze"}},
    }
    return tiny.experiment(
        strategies, training={"steps": 2}, conflict={"every": 0}, evaluation={"every": 0, **evaluation}, tasks=LEVELS
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished comparison whose runs were scored on severities."""
    out = tmp_path_factory.mktemp("suites") / "runs"
    made = comparison.run(experiment(suites=["severity"], adapt=["consistency:steps=0", "chain"]), out, "cpu")
    before = {run.folder: (run.folder / "per_image.csv").read_bytes() for run in made.runs}
    assert len(suite_files.leave_suites(made, out, "cpu")) == 3
    assert before == {run.folder: (run.folder / "per_image.csv").read_bytes() for run in made.runs}
    assert suite_files.leave_suites(made, out, "cpu") == [], "nothing is scored twice"
    return out


def rows_of(done: Path, label: str) -> list[dict[str, str]]:
    return suite_files.kept_rows(find_run(f"tiny/{label}", done))


def test_a_level_that_is_a_training_constant_scores_as_the_ordinary_evaluation(done: Path) -> None:
    with (find_run("tiny/joint", done) / "per_image.csv").open(newline="") as file:
        ordinary = {row["image"]: row for row in csv.DictReader(file) if row["task"] == "haze"}
    lines = [
        row for row in rows_of(done, "joint") if (row["task"], row["level"], row["answer"]) == ("haze", "4", "none")
    ]
    assert len(lines) == len(ordinary) == 2
    for row in lines:
        assert all(row[key] == ordinary[row["image"]][key] for key in ("psnr", "ssim", "psnr_input", "ssim_input"))
    assert {row["block"] for row in lines} == {"inside"}


def test_runs_are_scored_under_the_adapters_that_they_can_be_used_with(done: Path) -> None:
    scores = {
        answer: [row["psnr"] for row in rows_of(done, "joint") if row["answer"] == answer]
        for answer in ("none", "consistency:steps=0", "chain")
    }
    assert scores["none"] == scores["consistency:steps=0"] and len(scores["none"]) == 30
    assert scores["chain"] == [], "no run has a classifier"


def test_the_reference_is_the_single_task_run_of_the_line_s_task(done: Path) -> None:
    single = {
        row["image"] + row["level"]: row["psnr"] for row in rows_of(done, "single_haze") if row["answer"] == "none"
    }
    beside = [row for row in rows_of(done, "joint") if row["answer"] == "single"]
    assert {row["task"] for row in beside} == {"haze"} and len(beside) == 10
    assert all(row["psnr"] == single[row["image"] + row["level"]] for row in beside)


def test_gains_harm_and_intervals_by_another_route(done: Path) -> None:
    head = {"suite": "s", "block": "inside", "task": "t", "line": "", "level": "", "answer": "none"}
    gains = np.random.default_rng(0).normal(0.3, 1.0, 30)
    (one,) = summaries([{**head, "psnr": 20 + gain, "psnr_input": 20.0} for gain in gains])
    assert one.gain.estimate == pytest.approx(gains.mean()) and one.harm == (gains < 0).mean()
    half = stats.t.ppf(0.975, 29) * gains.std(ddof=1) / np.sqrt(30)  # Student's interval, close to BCa's
    assert one.gain.low == pytest.approx(gains.mean() - half, abs=0.1)
    assert one.gain.high == pytest.approx(gains.mean() + half, abs=0.1)
    for found in summaries(rows_of(done, "joint")):
        same = [row for row in rows_of(done, "joint") if (row["task"], row["level"]) == (found.task, str(found.level))]
        pairs = [(float(r["psnr"]), float(r["psnr_input"])) for r in same if r["answer"] == found.answer]
        assert found.gain.estimate == pytest.approx(np.mean([score - given for score, given in pairs]))
        assert found.harm == np.mean([score < given for score, given in pairs])


def test_only_trained_tasks_have_severities_and_the_others_are_unseen(done: Path) -> None:
    assert {row["task"] for row in rows_of(done, "joint")} == {"noise", "rain", "haze"}
    assert {row["task"] for row in rows_of(done, "without_rain")} == {"noise", "haze"}
    rows = restoration.evaluate(find_run("tiny/without_rain", done), experiment(), out=done, device="cpu")
    assert {row["task"]: row["trained"] for row in rows} == {"noise": True, "rain": False, "haze": True}


@pytest.mark.error("strategies: a joint curriculum without any task")
def test_a_curriculum_that_leaves_out_every_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no task to train on"):
        train(tiny.learner({"curriculum": {"name": "joint", "without": ["noise", "rain", "haze"]}}), tiny.Silent())


def test_a_task_that_the_run_does_not_know_is_scored_and_marked(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", "tiny/joint", "--out", done, "--set", "tasks.fog.degradation=rain_veil") == 0
    said = capsys.readouterr().out
    assert "fog (not trained)" in said and "not trained on fog" in said and "haze (not trained)" not in said


def test_a_file_of_three_unlike_sizes_is_scored_and_written(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, size in enumerate(((40, 56), (17, 33), (64, 21))):
        write(tmp_path / "clean" / f"{number}.png", pattern(*size, seed=number))
        write(tmp_path / "hazy" / f"{number}.png", pattern(*size, seed=number) // 2)
    write(tmp_path / "one" / "0.png", pattern())
    (tmp_path / "mine.yaml").write_text(
        f"fog: {{input: {tmp_path / 'hazy'}, target: {tmp_path / 'clean'}}}\n"
        f"lone: {{input: {tmp_path / 'one'}, target: {tmp_path / 'one'}}}\n"
    )
    kept = rows_of(done, "without_rain")
    arguments = ["--out", done, "--suite", tmp_path / "mine.yaml", "--csv", tmp_path / "all.csv"]
    assert command("evaluate", "tiny/without_rain", *arguments) == 0
    said = capsys.readouterr().out
    assert "suite mine" in said and "given" in said
    with (tmp_path / "all.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [sum(row["task"] == name for row in written) for name in ("fog", "lone")] == [6, 2]  # two answers each
    now = rows_of(done, "without_rain")
    assert [row["suite"] for row in now].count("mine") == 8 and len(now) == len(kept) + 8


def test_kinds_of_adapters_stand_in_tables_of_their_own(done: Path) -> None:
    study = Study.of(Frames.of_folder(done / "tiny"))
    rows = [row for row in study.frames.suites if row["label"] == "joint"]
    plain = [{**row, "psnr": float(row["psnr"])} for row in rows if row["answer"] == "none"]
    online = [
        {**row, "answer": "own", "kind": "online", "order": order, "psnr": row["psnr"] + order}
        for order in (0, 1) for row in plain[:: -1 if order else 1]
    ]  # fmt: skip
    study.frames.__dict__["suites"] = [*rows, *online]
    shown = {table.name: {row[4].text for row in table.rows} for table in suite_tables(study)}
    controls = {"none", "self_ensemble", "single"}
    assert shown["suite_severity"] == controls | {"consistency:steps=0"}
    assert shown["suite_severity_online"] == controls | {"own"}
    found = {(one.answer, one.task, one.level): one for one in of_strategies(study)["joint"]}
    none, own = found["none", "rain", 3], found["own", "rain", 3]
    assert own.score == pytest.approx(none.score + 0.5) and own.images == none.images
    assert own.spread == pytest.approx((none.score, none.score + 1.0)) and own.kind == "online"


def test_the_report_shows_tables_a_figure_and_sentences(done: Path, tmp_path: Path) -> None:
    study = Study.of(Frames.of_folder(done / "tiny"))
    table, *_, last = suite_tables(study)
    assert (table.name, last.name) == ("suite_severity", "suite_reach")
    blocks = [row[1].text for row in table.rows]
    assert blocks == sorted(blocks, key=["below", "inside", "beyond"].index) and len(set(blocks)) == 3
    said = beyond.sentences(study)
    assert len(said) == 2 and said[0].startswith("Images that joint makes worse at severities beyond")
    rows = [
        row
        for row in rows_of(done, "joint")
        if (row["task"], row["block"], row["answer"]) == ("haze", "beyond", "none")
    ]
    share = np.mean([float(row["psnr"]) < float(row["psnr_input"]) for row in rows])
    assert f"{share:.0%} of haze" in said[0]
    assert len(severity_curves(study, tmp_path / "severity")) == 3
