"""Claims about running an edited experiment again: what still counts, and what need not be trained again."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

from cmtl_ir.analysis.data.frames import Frames
from cmtl_ir.analysis.data.study import Study
from cmtl_ir.analysis.tables.scores import score_table
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.measures.scale import PSNR
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs import plan, rescoring
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.store import listing
from cmtl_ir.store.folder import write_config
from tests import tiny

SHORT = {"training": {"steps": 2}, "evaluation": {"every": 0}, "conflict": {"every": 2}}


def mine(strategy: dict[str, Any], **more: Any) -> Experiment:
    return tiny.experiment({"mine": strategy}, **tiny.merged({**SHORT, "tasks": {"haze": None}}, more))


# --------------------------------------------------------------------------------- strategies edited under a label


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of `mine`, then another definition of it with the first seed alone."""
    out = tmp_path_factory.mktemp("edited")
    runs.run(mine({}, seeds=[0, 1]), out, "cpu")
    runs.run(plan.narrowed_to(mine({"weighting": "rlw"}, seeds=[0, 1]), [], [0], None), out, "cpu")
    return out / "tiny"


def test_a_run_of_an_earlier_definition_is_listed_no_longer(edited: Path) -> None:
    assert [row["seed"] for row in listing.listed_runs(edited)] == [0]
    assert [row["seed"] for row in listing.stale_runs(edited)] == [1]


def test_it_is_averaged_nowhere_and_named_with_the_command(edited: Path) -> None:
    study = Study.of(Frames.of_folder(edited))
    assert set(study.frames.runs["seed"]) == {0} and set(study.frames.images["seed"]) == {0}
    assert [row[1].text for row in score_table(study, PSNR).rows] == ["–", "1 (one seed)"]
    assert study.missing[0].startswith("Of an earlier version of this experiment, and counted nowhere: mine (seed 1)")
    assert "--set 'seeds=[0, 1]'" in study.missing[0]


def test_a_list_of_an_earlier_version_of_this_program_is_read_in_the_same_way(edited: Path, tmp_path: Path) -> None:
    shutil.copytree(edited.parent, tmp_path / "runs")
    folder = tmp_path / "runs" / "tiny"
    rows = json.loads((folder / "runs.json").read_text())
    (folder / "runs.json").write_text(json.dumps([{k: v for k, v in row.items() if k != "stale"} for row in rows]))
    frames = Frames.of_folder(folder)
    assert [one.seed for one in frames.members] == [0] and frames.stale == (("mine", 1),)


def test_a_store_with_both_definitions_counts_the_newest(edited: Path) -> None:
    frames = Frames.of_store(f"sqlite:///{edited.parent}/mlflow.db", "tiny")
    assert [one.seed for one in frames.finished] == [0]
    assert frames.runs["parts"].tolist() == ["weighting=rlw"]


def test_the_earlier_definition_counts_again_when_it_comes_back(edited: Path, tmp_path: Path) -> None:
    rows = json.loads((edited / "runs.json").read_text())
    listing.list_runs(tmp_path, rows)
    back, other = (plan.prepare(mine(one, seeds=[0, 1]), edited.parent, "cpu") for one in ({}, {"weighting": "rlw"}))
    listing.list_runs(tmp_path, [], other.is_stale)
    assert [row["seed"] for row in listing.stale_runs(tmp_path)] == [1]
    listing.list_runs(tmp_path, [], back.is_stale)
    assert [row["seed"] for row in listing.stale_runs(tmp_path)] == [0]


# ------------------------------------------------------------------------------------------ test images that change


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, side in enumerate((48, 52, 56)):
        values = torch.arange(side * side * 3).view(side, side, 3).mul(number + 7).remainder(251).byte()
        Image.fromarray(values.numpy()).save(folder / f"{number}.png")
    return folder


def trained(images: Path, out: Path, fresh: bool = False) -> Comparison:
    given = mine({"curriculum": "sequential"}, data={"test": str(images), "test_crop": None})
    return runs.run(given, out, "cpu", fresh=fresh)


def test_a_test_image_that_is_removed_costs_an_evaluation_and_no_training(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (before,) = trained(images, tmp_path).runs
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    for name in ("0.png", "2.png"):
        shutil.copy(images / name, fewer / name)

    def never(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("cmtl_ir.runs.ordinary.train", never)
    shutil.rmtree(tmp_path / "tiny")  # the experiment names another folder of test images
    with caplog.at_level(logging.WARNING):
        (after,) = trained(fewer, tmp_path).runs
    assert after.hash != before.hash and after.status == "finished"
    assert f"trained before as {before.hash}" in caplog.text
    weights = [safetensors.torch.load_file(run.folder / "weights.safetensors") for run in (before, after)]
    assert tiny.same(*weights)
    results = [run.result() for run in (before, after)]
    assert results[1]["trained_as"] == before.hash and results[0]["steps"] == results[1]["steps"]
    ends = [[point["step"] for point in one["curve"]] for one in results]
    assert ends[0] == ends[1] == [1, 2]
    rows = [(run.folder / "per_image.csv").read_text().splitlines() for run in (before, after)]
    assert rows[1] == [row for row in rows[0] if ",1.png," not in row]
    assert (after.folder / "conflict.csv").read_text() == (before.folder / "conflict.csv").read_text()
    logged = [(run.folder / "metrics.jsonl").read_text() for run in (before, after)]
    assert all(one.count("loss/") == logged[0].count("loss/") > 0 for one in logged)
    monkeypatch.undo()
    check_against_a_training_from_the_start(fewer, tmp_path, results[1])


def check_against_a_training_from_the_start(images: Path, out: Path, scored: dict[str, Any]) -> None:
    (run,) = trained(images, out, fresh=True).runs
    result = run.result()
    assert "trained_as" not in result
    for key in ("hash", "psnr", "ssim", "psnr_input", "continual", "curve"):
        assert result[key] == scored[key], key


def test_a_store_is_parsed_once_per_command(edited: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = list[Path]()
    usual = rescoring.read_identity
    monkeypatch.setattr(rescoring, "read_identity", lambda folder: parsed.append(folder) or usual(folder))
    rescoring._training_in.cache_clear()
    run = plan.prepare(mine({"weighting": "dwa"}), edited.parent, "cpu").runs[0]
    assert rescoring.trained_alike(run) is rescoring.trained_alike(run) is None
    assert len(parsed) == len(set(parsed)) > 0


def test_a_run_that_differs_in_training_is_not_taken(edited: Path) -> None:
    def found(given: Experiment) -> Path | None:
        return rescoring.trained_alike(plan.prepare(given, edited.parent, "cpu").runs[0])

    home = found(mine({}, data={"test_crop": 40}))
    assert home is not None and (home / "result.json").is_file()
    assert found(mine({}, evaluation={"protocol": "nafnet"})) == home
    for other in (mine({}, seeds=[2]), mine({"weighting": "dwa"}), mine({}, data={"patch": 24})):
        assert found(other) is None
    (home / "stages").rename(home / "moved")
    assert found(mine({}, data={"test_crop": 40})) is None
    (home / "moved").rename(home / "stages")


def test_seeds_with_held_out_images_of_their_own_belong_to_one_plan(tmp_path: Path) -> None:
    data = {"holdout": "rotate"}
    both = plan.prepare(mine({}, seeds=[0, 1], data=data), tmp_path, "cpu")
    first, other = (plan.prepare(mine(one, data=data), tmp_path, "cpu") for one in ({}, {"weighting": "rlw"}))
    rows = [{"label": "mine", "seed": run.seed, "hash": run.hash} for run in both.runs]
    assert [first.is_stale(row) for row in rows] == [False, False]  # the second is not started
    for run in both.runs:
        run.folder.mkdir(parents=True)
        write_config(run.folder, run.identity, {})
    assert [first.is_stale(row) for row in rows] == [False, False]
    assert [other.is_stale(row) for row in rows] == [True, True]
