"""What MLflow's users see of a comparison: figures, parameters, data sets, how to repeat it, and its duration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.measures import of_runs
from cmtl_ir.runs import comparison
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.runs.tracked import figures_of
from cmtl_ir.tracking.store import Tracking
from tests import tiny

STRATEGIES = {"joint": {}, "art": {"curriculum": "sequential", "weighting": {"name": "art", "temperature": 0.5}}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    overrides = {"training": {"steps": 6}, "conflict": {"every": 0}, "evaluation": {"every": 1}, "data": {"val": 0.2}}
    return comparison.run(tiny.experiment(STRATEGIES, **overrides), tmp_path_factory.mktemp("tracked") / "runs", "cpu")


def tracked(made: Comparison, label: str) -> Any:
    store = made.tracking._store
    (run,) = store.client.search_runs([store.experiment_id], f"tags.`in.tiny` = '{label}'")
    return run


def test_a_run_has_the_means_of_its_scores_and_its_cost_as_metrics(made: Comparison) -> None:
    metrics, result = tracked(made, "art").data.metrics, made.results()[1]
    assert metrics["psnr/mean"] == pytest.approx(sum(result["psnr"].values()) / 3)
    assert metrics["ssim/mean"] == pytest.approx(sum(result["ssim"].values()) / 3)
    assert metrics["worst_task/psnr"] == pytest.approx(min(result["psnr"].values()))
    assert metrics["forgetting/mean"] == pytest.approx(result["continual"]["mean_forgetting_db"])
    assert "forgetting/mean" not in tracked(made, "joint").data.metrics  # one stage: nothing to forget
    assert metrics["cost/parameters"] == result["parameters"] and metrics["cost/seconds"] == result["seconds"]
    assert metrics["cost/wall_ms_per_step"] == pytest.approx(1e3 * result["step_seconds"] / 6)


def test_forgetting_is_that_of_the_table(made: Comparison) -> None:
    """Runs are evaluated at every step, but the table counts from the ends of stages."""
    table = of_runs(Frames.of_folder(made.folder)).set_index("label")["forgetting"]
    assert tracked(made, "art").data.metrics["forgetting/mean"] == pytest.approx(table["art"], abs=1e-9)
    figures, named = figures_of([one for one in made.results() if one["label"] == "art"])
    assert named["best"] == "art" and figures["best/forgetting/mean"] == pytest.approx(table["art"], abs=1e-9)


def test_every_hyper_parameter_of_every_part_is_a_parameter(made: Comparison) -> None:
    params = tracked(made, "art").data.params
    assert params["weighting"] == "art" and params["weighting.temperature"] == "0.5"
    assert params["curriculum"] == "sequential" and params["curriculum.order"] == "listed"
    assert params["backbone"] == "nafnet" and params["backbone.width"] == "4"


def test_the_images_of_a_run_are_data_sets(made: Comparison) -> None:
    inputs = tracked(made, "joint").inputs.dataset_inputs
    found = {one.dataset.name: (one.tags[0].value, json.loads(one.dataset.profile)["images"]) for one in inputs}
    uses = {name: use for name, (use, _) in found.items()}
    assert uses["noise"] == "training" and uses["noise-test"] == "test" and uses["haze-validation"] == "validation"
    assert found["noise-test"][1] == 2 and len(found) == 9
    identity = made.runs[0].identity
    digests = {one.dataset.name: one.dataset.digest for one in inputs}
    assert digests["rain"] == identity["tasks"]["rain"][:36]


def test_a_comparison_has_the_figures_of_its_best_and_its_baseline_and_how_to_repeat_it(made: Comparison) -> None:
    run = made.tracking._store.client.get_run(made.parent)
    results = {one["label"]: sum(one["psnr"].values()) / 3 for one in made.results()}
    assert run.data.tags["best"] == max(results, key=results.__getitem__) and run.data.tags["baseline"] == "joint"
    assert run.data.metrics["best/psnr/mean"] == pytest.approx(max(results.values()))
    assert run.data.metrics["baseline/psnr/mean"] == pytest.approx(results["joint"])
    seconds = sum(one["seconds"] for one in made.results())
    assert run.data.metrics["cost/seconds"] == pytest.approx(seconds)
    assert (run.info.end_time - run.info.start_time) / 1e3 >= seconds
    out = made.folder.parent
    command = f"cmtl-ir run {made.folder / 'experiment.yaml'} --out {out}"
    assert command in run.data.tags["mlflow.note.content"] and (made.folder / "experiment.yaml").is_file()
    assert f"{command} --strategy art --seed 0" in tracked(made, "art").data.tags["mlflow.note.content"]


def test_the_printed_address_opens_the_list_of_runs(made: Comparison, tmp_path: Path) -> None:
    identifier = made.tracking._store.experiment_id
    assert (
        made.tracking.page() == f"http://127.0.0.1:5000/#/experiments/{identifier}/runs?workflowType=machine_learning"
    )
    served = Tracking("https://me:secret@host:8080/", tmp_path)
    served.__dict__["_store"] = made.tracking._store
    assert served.page() == f"https://me:***@host:8080/#/experiments/{identifier}/runs?workflowType=machine_learning"
    kind = made.tracking._store.client.get_experiment(identifier).tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"  # otherwise its page asks for it first
