"""A metric in a file of one's own: what a run, its files, the tracking store, the terminal and `evaluate` say of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from cmtl_ir.analysis.comparison import leave_figures_and_tables
from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.cli.display import scores as display_scores
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import validate
from cmtl_ir.inference import restoration
from cmtl_ir.measures.metric import metrics_from
from cmtl_ir.measures.scale import Scale
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.store.run import hash_of
from cmtl_ir.tasks.suite import build_tasks
from tests import tiny

MAE = '''
from torch import Tensor

from cmtl_ir.measures.metric import Metric, Protocol, Scale


class Mae(Metric):
    """Mean absolute error in levels of 255."""

    scale = Scale("mae", "levels", higher_is_better=False, digits=3)

    def score(self, restored: Tensor, clean: Tensor, protocol: Protocol) -> Tensor:
        return (restored - clean).abs().flatten(1).mean(1)


class Unscaled(Metric):
    """Says nothing of its numbers."""


class Twin(Mae):
    """Another of the same name."""
'''
TASKS = {"noise": {"degradation": "gaussian_noise", "sigma": [25]}, "haze": {"degradation": "haze"}}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's file."""
    path = tmp_path_factory.mktemp("mine") / "my_metric.py"
    path.write_text(MAE)
    return path


def experiment(*metrics: str) -> Experiment:
    raw = {
        **tiny.RAW,
        "tasks": TASKS,
        "data": {**tiny.RAW["data"], "val": 0.2},
        "training": {**tiny.RAW["training"], "steps": 8},
        "evaluation": {"every": 3, **({"metrics": list(metrics)} if metrics else {})},
        "conflict": {"every": 0},
        "strategies": {"sequential": {"curriculum": "sequential"}},
    }
    return validate(raw, "tiny")


@pytest.fixture(scope="module")
def made(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """One finished run that was scored by the user's metric."""
    done = runs.run(experiment("psnr", "ssim", f"{file}:Mae"), tmp_path_factory.mktemp("out") / "runs", "cpu")
    assert not done.failures
    return done


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_metric_is_no_part_of_what_a_run_is(file: Path) -> None:
    hashes = set()
    for metrics in ((), ("psnr", "ssim"), ("psnr", "ssim", f"{file}:Mae")):
        one = experiment(*metrics)
        tasks = build_tasks(one.tasks, one.data, 0, torch.device("cpu"))
        hashes.add(hash_of(identity_of(one, one.strategies["sequential"], 0, tasks)))
    assert len(hashes) == 1
    assert "metrics" not in experiment().resolved()["evaluation"]
    assert experiment("psnr", f"{file}:Mae").resolved()["evaluation"]["metrics"] == ["psnr", f"{file}:Mae"]


def test_every_image_and_every_evaluation_has_its_score(made: Comparison) -> None:
    folder = made.runs[0].folder
    images, curve = rows_of(folder / "per_image.csv"), rows_of(folder / "curve.csv")
    assert list(images[0])[3:] == ["psnr", "ssim", "mae", "psnr_input", "ssim_input", "mae_input"]
    assert list(curve[0]) == ["step", "stage_end", "task", "psnr", "ssim", "mae"]
    assert {row["task"] for row in curve} == set(TASKS) and all(float(row["mae"]) > 0 for row in [*images, *curve])


def test_the_result_has_means_meaning_and_what_was_forgotten(made: Comparison) -> None:
    result = made.runs[0].result()
    images = rows_of(made.runs[0].folder / "per_image.csv")
    for task, score in result["mae"].items():
        own = [float(row["mae"]) for row in images if row["task"] == task]
        assert score == pytest.approx(sum(own) / len(own))
    assert set(result["mae_input"]) == set(TASKS) and set(result["val"]["mae"]) == set(TASKS)
    assert Scale(**result["metrics"][-1]) == Scale("mae", "levels", higher_is_better=False, digits=3)
    matrix = result["continual_by_metric"]["mae"]
    first, *_, last = matrix["scores"]["noise"]
    assert matrix["forgetting_db"]["noise"] == pytest.approx(last - first), "more error is forgetting"
    assert result["continual"]["metric"] == "psnr"


def test_the_tracking_store_has_curves_of_it(made: Comparison) -> None:
    logged: dict[str, list[tuple[int, float]]] = {}
    for line in (made.runs[0].folder / "metrics.jsonl").read_text().splitlines():
        entry = json.loads(line)
        for name, value in entry["metrics"].items():
            logged.setdefault(name, []).append((entry["step"], value))
    for kind in ("psnr", "psnr_val", "mae", "mae_val"):
        assert len(logged[f"{kind}/noise"]) == len(logged["psnr/noise"]) > 2, kind
    curve = {point["step"]: point["mae"]["noise"] for point in made.runs[0].result()["curve"]}
    assert dict(logged["mae/noise"]) == pytest.approx(curve)
    best = list(curve.values())[:-1]
    assert logged["forgetting_mae/noise"][-1][1] == pytest.approx(list(curve.values())[-1] - min(best))


def test_the_tables_and_the_terminal_show_it(made: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    files = leave_figures_and_tables(made)
    result, (row,) = made.results()[0], rows_of(made.folder / "table.csv")
    assert float(row["mae/noise"]) == result["mae"]["noise"]
    assert float(row["mae/mean"]) == pytest.approx(sum(result["mae"].values()) / 2)
    assert float(row["forgetting_mae/mean"]) == result["continual_by_metric"]["mae"]["mean_forgetting_db"]
    assert {"forgetting.png", "forgetting_mae.png"} <= {one.name for one in files}
    text = (made.folder / "table.md").read_text()
    first, second = text.split("\nMAE levels\n\n")
    assert first.startswith("PSNR dB / SSIM\n\n") and f"| {result['mae']['noise']:.3f} | " in second
    display_scores.comparison(made)
    shown = capsys.readouterr().out
    assert "MAE levels, lower is better" in shown and f"{result['mae']['haze']:.3f}" in shown


def test_evaluate_takes_it_by_name(made: Comparison, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = experiment()
    rows = restoration.evaluate(made.runs[0].folder, plain, device="cpu", metrics=[f"{file}:Mae"])
    before = rows_of(made.runs[0].folder / "per_image.csv")
    assert [row["mae"] for row in rows] == pytest.approx([float(row["mae"]) for row in before])
    scales = [metric.scale for metric in metrics_from(["psnr", "ssim", f"{file}:Mae"])]
    display_scores.scores(rows, scales, plain.evaluation.protocol, None)
    assert "MAE" in capsys.readouterr().out


@pytest.mark.error("metric: a mistake in evaluation.metrics")
@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (["ssim"], "psnr must be listed"),
        (["psnr", "ssmi"], "did you mean ssim"),
        (["psnr", "psnr"], "no metric may be listed twice"),
        (["psnr", "{file}:Mea"], "did you mean Mae"),
        (["psnr", "surgery/pcgrad"], "unknown metric"),
    ],
)
def test_a_mistake_in_the_list_is_found_before_training(file: Path, metrics: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        experiment(*(name.replace("{file}", str(file)) for name in metrics))


@pytest.mark.error("metric: an own class without a scale, or two of one name")
def test_a_metric_without_meaning_and_two_of_one_name_are_refused(file: Path) -> None:
    with pytest.raises(UserError, match="has no `scale = Scale"):
        metrics_from(["psnr", f"{file}:Unscaled"])
    with pytest.raises(UserError, match="two metrics have one name: psnr, mae, mae"):
        metrics_from(["psnr", f"{file}:Mae", f"{file}:Twin"])


@pytest.mark.parametrize("name", ["MAE", "mae_input", "seconds", "3d", "psnr/x"])
def test_a_name_that_a_table_could_not_carry_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="metric"):
        Scale(name)
