"""Claims about `report` and `compare` as a user meets them, from folders and from tracking stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from cmtl_ir.analysis.data import sources
from cmtl_ir.analysis.data.columns import COLUMNS
from cmtl_ir.analysis.data.frames import Frames, opened
from cmtl_ir.analysis.pair import compared
from cmtl_ir.base.errors import UserError
from cmtl_ir.cli import display, main
from cmtl_ir.measures.scale import DEFAULT, PSNR
from cmtl_ir.store.lookup import find_seeds
from cmtl_ir.tracking import mlflow_store, store
from tests.analysis import forged
from tests.benchmarks.frames import fill, statements


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command prints; it must end well."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    return " ".join(told.out.split())


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_the_report_says_the_summary_and_where_to_look(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display.console, "_width", 200)
    text = said(capsys, "report", "tiny", "--out", trained.parent, "--baseline", "pcgrad", "--conflict-at", "4-8")
    assert "has the highest mean PSNR" in text and "Cheapest: " in text and "No single-task reference for rain" in text
    home = trained / "report"
    assert str(home / "report.html") in text and (home / "report.md").is_file()
    assert (home / "tables" / "psnr.tex").is_file() and (home / "figures" / "conflict.pdf").is_file()
    assert "ms / pcgrad" in (home / "report.md").read_text()
    client = mlflow_store.connect(mlflow_store.sqlite_uri(trained.parent / "mlflow.db"))
    assert "logged to sqlite" in text
    run_id = text.rpartition("run ")[2]
    assert {one.path for one in client.list_artifacts(run_id, "report")} >= {"report/report.html", "report/figures"}


def test_a_copied_store_tells_what_the_folder_tells_and_is_not_written_to(trained: Path, tmp_path: Path) -> None:
    """Database and artifacts, carried elsewhere: the same frames; the original is neither read nor changed."""
    shutil.copy(trained.parent / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(trained.parent / "mlartifacts", tmp_path / "mlartifacts")
    uri = mlflow_store.sqlite_uri(tmp_path / "mlflow.db")
    here, there = Frames.of_folder(trained), Frames.of_store(uri, "tiny")
    for name in COLUMNS:
        order = list(COLUMNS[name])
        frames = [getattr(one, name)[order].sort_values(order, ignore_index=True) for one in (here, there)]
        pd.testing.assert_frame_equal(*frames)
    assert (there.cost["seconds"] > 0).all() and set(there.cost["timed"]) == {"steps"}
    assert there.labels == here.labels and there.experiment == here.experiment
    file = there.members[0].file("per_image.csv")
    assert file is not None and tmp_path in file.parents
    answer = sources.log_files(uri, "tiny", {"report": [tmp_path / "mlflow.db"]})
    assert answer.startswith("not logged: ") and "is a copy" in answer


def test_many_runs_are_read_with_as_many_statements_as_few(tmp_path: Path) -> None:
    """60 runs or 2 out of 300: a round trip a run would show."""
    database = tmp_path / "mlflow.db"
    uri = mlflow_store.sqlite_uri(database)
    store.Tracking(uri, tmp_path).parent("mine", {}, "name: mine")
    experiment = mlflow_store.connect(uri).get_experiment_by_name(mlflow_store.EXPERIMENT)
    fill(database, int(experiment.experiment_id), runs=300, compared=60, points=2)
    counts = {}
    for comparison, runs in (("mine", 60), ("other5", 2)):
        with statements() as sent:
            read = store.read_runs(uri, comparison)
        assert len(read["runs"]) == runs == read["curves"]["run"].nunique()
        counts[comparison] = len(sent)
    assert counts["mine"] == counts["other5"] > 0


def test_a_store_without_the_comparison_lists_what_it_has(trained: Path) -> None:
    uri = mlflow_store.sqlite_uri(trained.parent / "mlflow.db")
    with pytest.raises(UserError, match="no comparison 'tinny'; it has: tiny"):
        opened("tinny", uri=uri)


def test_a_store_whose_artifacts_are_gone_says_so(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained.parent / "mlflow.db", tmp_path / "mlflow.db")
    (tmp_path / "mlartifacts").mkdir()
    frames = Frames.of_store(mlflow_store.sqlite_uri(tmp_path / "mlflow.db"), "tiny")
    from cmtl_ir.analysis.data.study import Study

    with pytest.raises(UserError, match=r"no run has scores\. Finished, but the scores of each image cannot be read"):
        Study.of(frames)


def test_a_name_without_runs_is_answered_with_the_command(
    trained: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    answer = refused(capsys, "report", "quickstart", "--out", trained.parent)
    assert "`cmtl-ir run quickstart --out" in answer and "there: tiny" in answer
    assert "a span of steps" in refused(capsys, "report", "tiny", "--out", trained.parent, "--conflict-at", "8-4")
    assert refused(capsys, "report", "tiny", "--out", trained.parent, "--baseline", "jiont").count("joint") == 1


def test_compare_sets_two_runs_side_by_side(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display.console, "_width", 200)
    text = said(capsys, "compare", "tiny/joint/0", "tiny/pcgrad/0", "--out", trained.parent)
    scores = Frames.of_folder(trained).images.groupby(["label", "seed", "task"])["psnr"].mean()
    one, other = scores["joint", 0, "haze"], scores["pcgrad", 0, "haze"]
    assert f"{one:.2f} {other:.2f} {other - one:+.2f} too few to test: 2 images" in text
    assert "strategy.surgery.name – pcgrad" in text and "not comparable" not in text


def test_compare_tests_two_runs_over_images(tmp_path: Path) -> None:
    from scipy import stats

    final = {("joint", 0): {"noise": 26.0, "rain": 25.0}, ("joint", 1): {"noise": 27.0, "rain": 25.0}}
    folder = forged.comparison(tmp_path, final, images=24)
    homes = [tmp_path / "store" / member.run for member in Frames.of_folder(folder).members]
    pair = compared({0: homes[0]}, {1: homes[1]}, ("a", "b"))
    raw = [pd.read_csv(home / "per_image.csv").query("task == 'noise'").groupby("image").psnr.mean() for home in homes]
    assert pair.verdicts[PSNR]["noise"].test.p == pytest.approx(stats.wilcoxon(raw[1] - raw[0]).pvalue)
    assert pair.verdicts[PSNR]["noise"].style == "better" and pair.scores[PSNR][0] == (
        "noise",
        *map(pytest.approx, (21.15, 26.0, 27.0)),
    )
    assert pair.made_of == [("seed", "0", "1")] and pair.over_seeds[PSNR] == {}


def test_compare_pairs_two_strategies_by_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences of .4, .5 and .6 dB on noise and of .1, 0 and -.4 dB on rain; the fourth seed has no partner."""
    monkeypatch.setattr(display.console, "_width", 250)
    from scipy import stats

    differences = {"noise": [0.4, 0.5, 0.6], "rain": [0.1, 0.0, -0.4]}
    final = {("joint", seed): {"noise": 26.0 + seed, "rain": 25.0} for seed in range(4)}
    final |= {("other", s): {t: final["joint", s][t] + differences[t][s] for t in differences} for s in range(3)}
    folder = forged.comparison(tmp_path, final, images=24)
    for member in Frames.of_folder(folder).members:
        (tmp_path / "store" / member.run / "weights.safetensors").touch()
    told = said(capsys, "compare", "forged/joint", "forged/other", "--out", tmp_path)
    assert "A: forged/joint (seeds 0, 1, 2) B: forged/other (seeds 0, 1, 2)" in told
    assert "left out: seed 3 of forged/joint, which the other side does not have" in told
    assert "other - joint over seeds 0, 1, 2, mean PSNR dB: +0.20 [" in told
    pair = compared(find_seeds("forged/joint", tmp_path), find_seeds("forged/other", tmp_path), ("a", "b"))
    p = {task: stats.ttest_1samp(values, 0.0).pvalue for task, values in differences.items()}
    found = pair.over_seeds[PSNR]
    assert list(found) == ["noise", "rain", "mean"]
    assert found["noise"].p == pytest.approx(p["noise"], rel=1e-6) and found["rain"].p == pytest.approx(p["rain"])
    assert found["noise"].p_holm == pytest.approx(3 * p["noise"], rel=1e-6) and found["noise"].significant
    assert [one for one, *_ in pair.scores[PSNR]] == ["noise", "rain", "mean"]
    assert pair.scores[PSNR][0][2:] == (pytest.approx(27.0), pytest.approx(27.5))
    assert "significantly better, p = 0.0392 (t-test, Holm), 3 seeds, which detect 0.33" in told
    answer = refused(capsys, "compare", "forged/joint/3", "forged/other", "--out", tmp_path)
    assert "forged/joint/3 has seeds 3 and forged/other has 0, 1, 2: none is the same" in answer


def test_compare_refuses_a_verdict_on_runs_that_differ_in_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = {("joint", 0): {"noise": 26.0, "rain": 25.0}, ("wide", 0): {"noise": 27.0, "rain": 25.0}}
    folder = forged.comparison(tmp_path, final, identities={("wide", 0): {"backbone": {"width": 8}}})
    homes = [tmp_path / "store" / member.run for member in Frames.of_folder(folder).members]
    for home in homes:
        (home / "weights.safetensors").touch()
    text = said(capsys, "compare", *homes, "--out", tmp_path)
    assert "not comparable: backbone.width differs" in text and "B - A" not in text and "significant" not in text
    assert "are the same run" in refused(capsys, "compare", homes[0], homes[0], "--out", tmp_path)


def test_the_tables_that_run_leaves_show_hostile_labels_as_text(tmp_path: Path) -> None:
    from cmtl_ir.analysis import comparison

    scores = {f"{metric}{suffix}": {"noise": 0.5} for metric in ("psnr", "ssim") for suffix in ("", "_input")}
    result = {"label": "=a|b\nc", "seed": 0, "hash": "h", **scores, "steps": 1, "parameters": 1}
    result["continual"] = {"mean_forgetting_db": None}
    text = comparison._markdown(tmp_path / "table.md", [result], DEFAULT).read_text()
    assert text.splitlines()[-1].startswith(r"| =a\|b c | 0 | 0.50 / 0.5000 | ")
    assert pd.read_csv(comparison._csv(tmp_path / "table.csv", [result], DEFAULT))["strategy"].tolist() == ["'=a|b c"]
