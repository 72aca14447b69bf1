"""A search from its file to its winner: trials are tracked runs, nothing is trained twice, the winner runs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution

from cmtl_ir.analysis.search import against_parameters, best_so_far, in_words, undominated
from cmtl_ir.base import yaml
from cmtl_ir.base.errors import Pruned
from cmtl_ir.cli import commands
from cmtl_ir.config import reading
from cmtl_ir.runs import comparison as runs
from cmtl_ir.search.config import Plan, SearchConfig
from cmtl_ir.search.report import LEAST_TRIALS, importances, no_importances, parameter_names
from cmtl_ir.search.scores import Report, seconds_of
from cmtl_ir.tracking.store import local_uri, read_runs
from tests import tiny

SPACE = {"strategy.weighting": {"choice": ["equal", "dwa"]}, "training.batch": {"choice": [4, 6]}}
QUICK: dict[str, Any] = {
    "training": {"steps": 6},
    "data": {"test_crop": 24, "val": 0.2},
    "evaluation": {"every": 3},
    "conflict": {"every": 0},
}
BOTH = {"space": SPACE, "sampler": "BruteForceSampler", "objectives": ["mean_psnr", "forgetting_db"]}


def file_of(folder: Path, search: dict[str, Any], name: str) -> str:
    file = folder / f"{name}.yaml"
    file.write_text(yaml.dump({**tiny.merged(tiny.RAW, QUICK), "name": name, "search": search}))
    return str(file)


def searched(file: str, out: Path, *more: str) -> int:
    arguments = ["search", file, "--out", str(out), "--device", "cpu", *more]
    return commands.app(arguments, standalone_mode=False) or 0


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def stamps(out: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in out.glob("store/*/result.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study of two objectives."""
    out = tmp_path_factory.mktemp("search")
    assert searched(file_of(out, BOTH, "both"), out, "--trials", "3") == 0
    assert len(rows(out / "both" / "trials.csv")) == 3
    assert searched(file_of(out, BOTH, "both"), out) == 0  # goes on to the end of the space
    return out / "both"


def test_every_setting_was_tried_once_and_is_a_run_of_its_own(done: Path) -> None:
    trials = rows(done / "trials.csv")
    settings = {(trial["strategy.weighting"], trial["training.batch"]) for trial in trials}
    assert len(trials) == len(settings) == 4 and {trial["state"] for trial in trials} == {"complete"}
    assert {trial["runs"] for trial in trials} == {file.parent.name for file in stamps(done.parent)}


def test_trials_are_child_runs_in_the_tracking_store(done: Path) -> None:
    found = read_runs(local_uri(done.parent), "both")["runs"]
    assert set(found["label"]) == {f"trial-{number:04d}" for number in range(4)}
    assert set(found["status"]) == {"FINISHED"} and len(set(found["tags.mlflow.parentRunId"])) == 1
    assert set(found["tags.search.strategy.weighting"]) == {"equal", "dwa"}


def test_the_same_command_again_trains_nothing(done: Path) -> None:
    before = stamps(done.parent)
    assert searched(file_of(done.parent, BOTH, "both"), done.parent) == 0
    assert stamps(done.parent) == before


def test_run_takes_the_winner_and_has_nothing_left_to_train(done: Path) -> None:
    before = stamps(done.parent)
    winner = reading.load(str(done / "winner.yaml"))
    comparison = runs.run(winner, done.parent, "cpu")
    assert not comparison.failures and stamps(done.parent) == before
    best = max(rows(done / "trials.csv"), key=lambda trial: float(trial["mean_psnr"]))
    assert [run.hash for run in comparison.runs] == [best["runs"]]


def test_tables_and_figures_are_left(done: Path) -> None:
    for name in ("front.csv", "history.png", "front.png", "parameters.png"):
        assert (done / name).is_file(), name
    assert not list(done.glob("importances.*"))  # too few trials


def test_a_trial_that_is_given_up_stops_on_the_way_and_its_run_can_go_on(tmp_path: Path) -> None:
    pruner = {"name": "ThresholdPruner", "lower": 1000.0}
    block = {"space": {"training.batch": {"choice": [4]}}, "trials": 1, "pruner": pruner}
    assert searched(file_of(tmp_path, block, "pruned"), tmp_path) == 0
    (trial,) = rows(tmp_path / "pruned" / "trials.csv")
    assert trial["state"] == "pruned" and not stamps(tmp_path)
    (home,) = (tmp_path / "store").iterdir()
    assert [path.name for path in (home / "checkpoints").glob("step-*")] == ["step-000000003"]


# ---------------------------------------------------------------------------------------- what the pruner sees


class Told:
    """A trial that a pruner gives up as soon as it is told of something worse than 20 dB."""

    number = 7

    def __init__(self) -> None:
        self.values: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        self.values.append((value, step))

    def should_prune(self) -> bool:
        return self.values[-1][0] < 20


def report_on(told: Told, before: list[float], **search: Any) -> Report:
    block = SearchConfig.model_validate({"space": SPACE, "pruner": "MedianPruner", **search})
    scores = [{"mean_psnr": value} for value in before]
    return Report(cast(optuna.Trial, told), Plan("x", {}, {}, block), 100, scores)


def curve(*values: float) -> list[dict[str, Any]]:
    """A validation PSNR every 50 steps."""
    return [{"step": 50 * n, "val": {"psnr": {"noise": v}}} for n, v in enumerate(values, start=1)]


def test_on_the_way_the_pruner_sees_the_mean_over_the_seeds_so_far_and_each_point_once() -> None:
    told = Told()
    report = report_on(told, before=[30.0])
    report.at_evaluation(curve(20.0))
    report.at_evaluation(curve(20.0, 24.0))
    assert told.values == [(25.0, 150), (27.0, 200)]


def test_what_is_worse_stops_on_the_way_but_not_when_it_is_there_anyway() -> None:
    with pytest.raises(Pruned, match="trial 7 at step 50"):
        report_on(Told(), before=[]).at_evaluation(curve(10.0))
    report_on(Told(), before=[]).at_evaluation(curve(10.0, 12.0))


def test_pruned_on_seeds_the_pruner_sees_the_end_of_each_and_the_rest_are_not_trained() -> None:
    told = Told()
    report = report_on(told, before=[30.0], prune_on="seeds")
    report.at_evaluation(curve(10.0))
    report.at_the_end({}, [{"mean_psnr": 30.0}], last=False)
    with pytest.raises(optuna.TrialPruned, match="after 2 seeds"):
        report.at_the_end({}, [{"mean_psnr": 30.0}, {"mean_psnr": 19.0}], last=False)
    report.at_the_end({}, [{"mean_psnr": 30.0}, {"mean_psnr": 19.0}, {"mean_psnr": 18.0}], last=True)
    assert told.values == [(30.0, 0), (19.0, 1), (18.0, 2)]


# ---------------------------------------------------------------------------------------- what is drawn of it


def test_importances_are_shares_of_the_variance_and_refused_for_few_trials() -> None:
    """Of a + b / 2 with uniform a and b, fANOVA gives a 0.8 of the variance."""
    plan = Plan("x", {}, {}, SearchConfig.model_validate({"space": SPACE}))
    study = optuna.create_study(direction="maximize")
    ends = dict.fromkeys(("a", "b"), FloatDistribution(0.0, 1.0))
    for number, (a, b) in enumerate(np.random.default_rng(0).random((120, 2))):
        if number == LEAST_TRIALS - 1:
            assert importances(plan, study) == {} and "29 complete trials are fewer than 30" in no_importances(study)
        study.add_trial(optuna.create_trial(params={"a": a, "b": b}, distributions=ends, value=a + b / 2))
    shares = importances(plan, study)["mean_psnr"]
    assert shares["a"] == pytest.approx(0.8, abs=0.06) and not no_importances(study)


def test_objectives_are_drawn_against_parameters_of_any_kind(tmp_path: Path) -> None:
    few, many = '{"low": 1, "high": 2}', '{"low": 1, "high": 3}'
    trials: list[dict[str, Any]] = [
        {"trial": 0, "mean_psnr": 20.0, "lr": 1e-4, "surgery": "pcgrad", "scale": 2, "scales": few},
        {"trial": 1, "mean_psnr": 21.0, "lr": 1e-1, "surgery": "", "scale": 3, "scales": many},
    ]
    names = ["lr", "surgery", "scale", "scales", "never"]
    png, _, svg = against_parameters(trials, {"mean_psnr": "maximize"}, names, tmp_path / "parameters")
    text = svg.read_text()
    assert png.is_file() and all(f"<!-- {one} -->" in text for one in (*names[:4], "mean_psnr (dB)", "pcgrad"))
    assert "<!-- never -->" not in text and in_words(few) == "low 1, high 2"
    assert all(f"<!-- {in_words(one)} -->" in text for one in (few, many))  # shortened, they would be alike


def test_the_ranges_inside_a_choice_are_parameters_too() -> None:
    inner = {"choice": ["equal", {"name": "art", "temperature": {"float": [0.1, 2.0]}}]}
    search = SearchConfig.model_validate({"space": {"strategy.weighting": inner, "training.batch": {"choice": [4]}}})
    row = {"trial": 0, "training.batch": 4, "strategy.weighting": "art", "strategy.weighting[art].temperature": 0.3}
    expected = ["strategy.weighting", "strategy.weighting[art].temperature", "training.batch"]
    assert parameter_names(Plan("s", {}, {}, search), [row]) == expected


def test_a_step_is_timed_by_the_clock_of_the_cost_tables() -> None:
    known: dict[str, Any] = {"seconds": 9.0, "step_seconds": 8.0, "step_cpu_seconds": 7.0, "step_cuda_seconds": None}
    assert seconds_of(known) == 7.0 and seconds_of({**known, "step_cuda_seconds": 6.0}) == 6.0
    assert seconds_of({"seconds": 9.0}) == 9.0  # of an earlier version


def test_the_front_is_what_no_other_trial_beats() -> None:
    points = np.array([[3.0, 1.0], [2.0, 0.5], [2.0, 0.6], [3.0, 1.0], [1.0, 0.7], [4.0, 2.0]])
    assert undominated(points, ["maximize", "minimize"]).tolist() == [0, 1, 3, 5]
    assert best_so_far([1.0, 3.0, 2.0], "maximize") == [1.0, 3.0, 3.0]
    assert best_so_far([2.0, 3.0, 1.0], "minimize") == [2.0, 2.0, 1.0]
