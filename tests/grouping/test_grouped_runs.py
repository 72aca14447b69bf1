"""Grouped strategies train ordinary runs of their groups, which are skipped, resumed and shared like any other."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError
from cmtl_ir.inference import open_sets, restoration
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs.plan import Comparison
from cmtl_ir.store import checkpoint
from cmtl_ir.store.run import Run
from tests import tiny

SMALL: dict[str, Any] = {"share": 1.0, "patches": 24, "size": 32, "query": 6}
TASKS = {
    "haze": {"degradation": "haze"},
    "fog": {"degradation": "haze"},
    "dark": {"degradation": "low_light"},
    "dusk": {"degradation": "low_light"},
}
TWINS = {frozenset({"haze", "fog"}), frozenset({"dark", "dusk"})}
"""Each degradation under two names: the same thing seen through other samples, and its opposite."""
STRATEGIES = {
    "grids": {"grouping": {"name": "grids", "groups": 2, **SMALL}},
    "tag": {"grouping": {"name": "tag", "groups": 2, "every": 2, "routing": "statistics", **SMALL}},
    "conflict": {"grouping": {"name": "conflict", "groups": 2, "every": 1, **SMALL}},
    "random": {"grouping": {"name": "random", "like": {"name": "grids", "groups": 2, **SMALL}, **SMALL}},
    "told": {"grouping": {"name": "manual", "groups": [["haze", "dark"], ["fog", "dusk"]], "routing": "oracle"}},
    "soft": {"surgery": "pcgrad", "grouping": {"name": "manual", "groups": "each", "routing": "soft", **SMALL}},
}


def grouped(**overrides: Any) -> Any:
    raw = {**tiny.RAW, "tasks": TASKS, "name": "grouped", "conflict": {"every": 0}, "evaluation": {"every": 0}}
    raw["training"] = {**tiny.RAW["training"], "batch": 8}
    strategies = overrides.pop("strategies", STRATEGIES)
    return tiny.validate({**tiny.merged(raw, overrides), "strategies": strategies}, "grouped")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    comparison = runs.run(grouped(), tmp_path_factory.mktemp("grouped"), "cpu")
    assert not comparison.failures
    return comparison


def labelled(comparison: Comparison) -> dict[str, Run]:
    return {run.label: run for run in comparison.runs}


def members(run: Run) -> list[dict[str, Any]]:
    return json.loads((run.folder / "groups.json").read_text())["groups"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "weights.safetensors")


# ----------------------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("label", ["grids", "tag", "conflict"])
def test_the_same_degradation_under_two_names_lands_in_one_group_and_its_opposite_does_not(
    done: Comparison, label: str
) -> None:
    assert {frozenset(group["serves"]) for group in members(labelled(done)[label])} == TWINS


def test_random_groups_have_the_sizes_of_those_they_control(done: Comparison) -> None:
    sizes = [sorted(len(group["tasks"]) for group in members(labelled(done)[label])) for label in ("random", "grids")]
    assert sizes[0] == sizes[1]


def test_the_steps_of_one_run_are_shared_by_the_groups_and_the_result_says_so(done: Comparison) -> None:
    for run in done.runs:
        result = run.result()
        assert sum(group["steps"] for group in members(run)) == result["steps"] == 12
        assert any("12 steps in all, shared by" in note for note in result["grouping"]["notes"])


def test_equal_steps_per_group_are_called_more_than_the_others_get(tmp_path: Path) -> None:
    given = {"name": "manual", "groups": [["haze", "fog"], ["dark", "dusk"]], "routing": "oracle"}
    plans = {"more": {"grouping": {**given, "steps": "equal_per_group"}}}
    (run,) = runs.run(grouped(strategies=plans, training={"steps": 2}), tmp_path, "cpu").runs
    assert run.result()["steps"] == 4
    assert any("4 in all, more than the other strategies get" in note for note in run.result()["grouping"]["notes"])


# ------------------------------------------------------------------------------------------------ union of runs


@pytest.mark.parametrize("label", ["grids", "soft"])
def test_a_grouped_run_is_the_union_of_separate_runs_bit_for_bit(done: Comparison, tmp_path: Path, label: str) -> None:
    """Each group's tasks alone, as an experiment of its own elsewhere: the same hash, weights and scores."""
    run = labelled(done)[label]
    own = {key: part for key, part in STRATEGIES[label].items() if key != "grouping"}
    for number, group in enumerate(members(run)):
        alone = {"name": f"alone{number}", "tasks": {task: TASKS.get(task) for task in group["tasks"]}}
        absent = {task: None for task in TASKS if task not in group["tasks"]}
        made = grouped(
            strategies={"own": own},
            **{**alone, "tasks": {**alone["tasks"], **absent}},
            training={"steps": group["steps"]},
        )
        (separate,) = runs.run(made, tmp_path, "cpu").runs
        assert separate.hash == group["run"]
        assert tiny.same(weights(separate.folder), weights(run.folder.parent / group["run"]))
        told = {row["task"]: [] for row in rows(run)}
        for row in rows(run):
            told[row["task"]].append(float(row["psnr_oracle"]))
        for task in group["serves"]:
            assert sum(told[task]) / len(told[task]) == pytest.approx(separate.result()["psnr"][task], abs=1e-9)


def rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "per_image.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_strategies_share_the_runs_and_probes_that_they_have_in_common(done: Comparison) -> None:
    plans = {label: json.loads((run.folder / "groups.json").read_text()) for label, run in labelled(done).items()}
    assert plans["grids"]["proxy"] == plans["tag"]["proxy"] == plans["soft"]["proxy"] is not None
    assert [group["run"] for group in plans["grids"]["groups"]] == [g["run"] for g in plans["tag"]["groups"]]


# ------------------------------------------------------------------------------------------ results and routing


def test_a_finished_grouped_run_leaves_what_a_reader_needs(done: Comparison) -> None:
    for run in done.runs:
        for name in ("result.json", "groups.json", "per_image.csv", "curve.csv", "config.yaml"):
            assert (run.folder / name).is_file(), f"{run.label} has no {name}"
        assert len(list((run.folder / "restored").glob("*.png"))) == 12
        result = run.result()
        assert set(result["psnr"]) == set(TASKS)
        confusion = result["grouping"]["confusion"]
        assert sum(confusion["haze"].values()) == sum(row["task"] == "haze" for row in rows(run))


def test_every_rule_that_needs_no_oracle_is_scored_beside_chance(done: Comparison) -> None:
    accuracy = labelled(done)["grids"].result()["grouping"]["accuracy"]
    assert set(accuracy) == {"own", "grids", "statistics", "chance"}
    assert accuracy["own"] == accuracy["grids"] and accuracy["chance"] == {"task": 0.25, "group": 0.5}
    assert accuracy["statistics"]["group"] > accuracy["chance"]["group"]  # haze and darkness are not alike


def test_scores_differ_from_the_oracles_where_an_image_went_to_another_group(done: Comparison) -> None:
    run = labelled(done)["grids"]
    serving = {task: str(number) for number, group in enumerate(members(run)) for task in group["serves"]}
    for row in rows(run):
        assert (row["psnr"] == row["psnr_oracle"]) == (row["group"] == serving[row["task"]])


def test_with_an_oracle_nothing_is_routed_and_no_proxy_is_trained(done: Comparison) -> None:
    result = labelled(done)["told"].result()["grouping"]
    assert set(result["accuracy"]) == {"chance"} and result["cost"]["router"] == 0
    assert all(row["routed"] == row["task"] for row in rows(labelled(done)["told"]))


def test_a_router_answers_tasks_that_the_run_was_not_trained_on_and_an_oracle_cannot(
    done: Comparison, tmp_path: Path
) -> None:
    unseen = grouped(tasks={"wet": {"degradation": "rain_streaks"}})
    routed, told = labelled(done)["grids"], labelled(done)["told"]
    found = restoration.evaluate(routed.folder, unseen, device="cpu")
    wet = [row for row in found if row["task"] == "wet"]
    assert len(wet) == 2 and all(not row["trained"] and row["psnr"] == row["psnr_oracle"] for row in wet)
    report = restoration.routing(routed.folder, found)
    assert report is not None and report["images"] == len(found) - len(wet)
    with pytest.raises(UserError, match="routing: oracle and not trained on wet"):
        restoration.evaluate(told.folder, unseen, device="cpu")
    (tmp_path / "wet.yaml").write_text("wet: {degradation: rain_streaks}\n")
    lines = open_sets.evaluate_suites(routed.folder, grouped(), [str(tmp_path / "wet.yaml")], device="cpu")
    plain = {row["image"]: row["psnr"] for row in lines if row["answer"] == "none"}
    assert plain == {row["image"]: row["psnr"] for row in wet}


def test_cost_counts_stored_models_and_what_an_image_runs_through(done: Comparison) -> None:
    costs = {label: run.result()["grouping"]["cost"] for label, run in labelled(done).items()}
    one = labelled(done)["told"].result()["parameters"] // 2
    assert costs["told"] == {"models": 2, "router": 0, "stored": 2 * one, "run_per_image": one}
    assert costs["grids"] == {"models": 2, "router": one, "stored": 3 * one, "run_per_image": 2 * one}
    assert costs["soft"] == {"models": 4, "router": one, "stored": 5 * one, "run_per_image": 5 * one}


# ------------------------------------------------------------------------------------------ again, killed, apart


def test_running_again_trains_nothing(done: Comparison) -> None:
    before = {file: file.stat().st_mtime_ns for file in done.folder.parent.glob("store/*/result.json")}
    again = runs.run(grouped(), done.folder.parent, "cpu")
    assert not again.failures
    assert {file: file.stat().st_mtime_ns for file in done.folder.parent.glob("store/*/result.json")} == before


def test_fresh_sets_aside_the_models_of_its_groups_too(tmp_path: Path) -> None:
    plan = {"told": STRATEGIES["told"]}
    first = runs.run(grouped(strategies=plan, training={"steps": 2}), tmp_path, "cpu")
    runs.run(grouped(strategies=plan, training={"steps": 2}), tmp_path, "cpu", fresh=True)
    assert len(list((tmp_path / "store").glob("*.before-*"))) == len(first.runs[0].folders) == 3


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    "saves", [pytest.param(1, marks=pytest.mark.release), pytest.param(4, marks=pytest.mark.release), 8]
)
def test_a_grouped_run_that_breaks_off_anywhere_goes_on_to_the_same_bits(
    done: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    """Broken off after so many checkpoints: in the proxy, in the look-ahead, in a group."""
    plan = {"tag": STRATEGIES["tag"]}
    left, save = [saves], checkpoint.save

    def save_some(*given: Any, **more: Any) -> Any:
        saved = save(*given, **more)
        left[0] -= 1
        if not left[0]:
            raise Killed
        return saved

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", save_some)
        with pytest.raises(Killed):
            runs.run(grouped(strategies=plan), tmp_path, "cpu")
    (resumed,) = runs.run(grouped(strategies=plan), tmp_path, "cpu").runs
    reference = labelled(done)["tag"]
    assert members(resumed) == members(reference) and rows(resumed) == rows(reference)
    for group in members(resumed):
        assert tiny.same(weights(resumed.folder.parent / group["run"]), weights(reference.folder.parent / group["run"]))
    (matrix,) = resumed.folder.parent.glob("*/probes/affinity-*.json")
    (wanted,) = reference.folder.parent.glob("*/probes/affinity-*.json")
    assert matrix.read_text() == wanted.read_text()


def command(tmp_path: Path, strategies: dict[str, Any], *more: str) -> list[str]:
    file = tmp_path / "grouped.yaml"
    file.write_text(yaml.dump(grouped(strategies=strategies).resolved()))
    return [sys.executable, "-m", "cmtl_ir", "run", str(file), "--out", str(tmp_path / "out"), "--device", "cpu", *more]


@pytest.mark.release  # breaks of grouped runs, and kills of workers, are tested each time on their own
def test_kill_9_in_a_group_then_two_workers_finish_to_the_same_bits(done: Comparison, tmp_path: Path) -> None:
    plans = {label: STRATEGIES[label] for label in ("grids", "random")}
    quiet = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command(tmp_path, plans), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and not list(tmp_path.glob("out/store/*/probes/features*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    answer = subprocess.run(
        command(tmp_path, plans, "--workers", "2"), capture_output=True, text=True, env=quiet, timeout=300
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    finished = runs.prepare(grouped(strategies=plans), tmp_path / "out", "cpu").runs
    for run in finished:
        reference = labelled(done)[run.label]
        assert members(run) == members(reference)
        for group in members(run):
            here, there = (one.folder.parent / group["run"] for one in (run, reference))
            assert tiny.same(weights(here), weights(there))


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.error("grouping: no validation images")
def test_fewest_groups_without_validation_images_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"strategies.one.grouping: grids chooses on validation images.*data.val=0.2"):
        runs.prepare(grouped(strategies={"one": {"grouping": "grids"}}), tmp_path, "cpu")


@pytest.mark.error("grouping: more groups than tasks")
def test_too_many_groups_are_refused_by_the_label_of_their_strategy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"strategies.one.grouping.groups: 5 groups of 4 tasks"):
        runs.prepare(grouped(strategies={"one": {"grouping": {"name": "tag", "groups": 5}}}), tmp_path, "cpu")


@pytest.mark.error("grouping: a misspelt task")
def test_a_misspelt_task_in_a_manual_group_is_named_with_its_near_name() -> None:
    with pytest.raises(UserError, match=r"names the unknown task 'dusc'.*dusk"):
        grouped(strategies={"one": {"grouping": {"name": "manual", "groups": [["haze", "fog"], ["dark", "dusc"]]}}})


def test_fewest_groups_by_predicted_drop_on_validation_images(tmp_path: Path) -> None:
    """A drop of any size is allowed: one group for all, after one proxy a task and at most two partitions."""
    strategies = {"one": {"grouping": {"name": "grids", "delta": 100.0, **SMALL, "share": 0.2}}}
    made = grouped(strategies=strategies, data={"val": 0.2}, training={"steps": 8})
    (run,) = runs.run(made, tmp_path, "cpu").runs
    assert [group["tasks"] for group in members(run)] == [list(TASKS)]
    assert any("1 group(s): predicted drop" in note for note in run.result()["grouping"]["notes"])
