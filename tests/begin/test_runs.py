"""Runs that begin from a run or a file: the same bits as their source goes on with, found again, resumed, named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.config.experiment import Experiment
from cmtl_ir.config.reading import validate
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs import plan, rescoring
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.store import listing
from cmtl_ir.store.folder import read_result, write_config
from cmtl_ir.store.lookup import find_run
from cmtl_ir.store.run import hash_of
from cmtl_ir.unlearning.planning import refuse_impossible
from tests import tiny

TWO: dict[str, Any] = {
    "tasks": {"haze": None}, "evaluation": {"every": 0}, "conflict": {"every": 0}, "checkpoint": {"every": 1}
}  # fmt: skip
SEQUENTIAL = {"curriculum": "sequential"}


def made(strategies: dict[str, Any], steps: int = 2, **more: Any) -> Experiment:
    return tiny.experiment(strategies, **tiny.merged({**TWO, "training": {"steps": steps}}, more))


def warm(start: Any, strategies: dict[str, Any] | None = None, **more: Any) -> Experiment:
    return made(strategies or {"warm": SEQUENTIAL}, name="warm", start=start, **more)


def planned(experiment: Experiment, out: Path) -> plan.PlannedRun:
    return plan.prepare(experiment, out, "cpu").planned[0]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "weights.safetensors")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`first/sequential` learns noise, then rain, with two seeds; `first/single` learns noise alone."""
    out = tmp_path_factory.mktemp("begin")
    strategies = {"sequential": SEQUENTIAL, "single": {"curriculum": {"name": "single", "task": "noise"}}}
    done = runs.run(made(strategies, steps=4, name="first", seeds=[0, 1]), out, "cpu")
    assert done.failures == {}
    return out


@pytest.fixture(scope="module")
def second(out: Path) -> runs.Comparison:
    """The second stage of `first/sequential`, as a run of its own."""
    start = {"from": "first/sequential", "stage": 1, "learned": ["noise"]}
    done = runs.run(warm(start, seeds=[0, 1]), out, "cpu")
    assert done.failures == {}
    return done


def test_each_seed_goes_on_where_the_same_seed_was(out: Path, second: runs.Comparison) -> None:
    before = {row["seed"]: out / "store" / row["hash"] for row in listing.listed_runs(out / "first")[:2]}
    for run in second.runs:
        assert tiny.same(weights_of(run.folder), weights_of(before[run.seed]))
        whole, rest = read_result(before[run.seed]), run.result()
        ends = [point for point in whole["curve"] if point["stage_end"] is not None]
        assert [point["psnr"] for point in rest["curve"]] == [point["psnr"] for point in ends]
        assert [(point["step"], point["stage_end"]) for point in rest["curve"]] == [(0, "learned"), (2, "rain")]
        for key in ("own_stage", "scores", "forgetting_db", "backward_transfer"):
            assert rest["continual"][key] == whole["continual"][key]


def test_a_killed_run_resumes_after_the_tasks_that_it_knew(out: Path, second: runs.Comparison, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "runs")
    folder = tmp_path / "runs" / "store" / second.runs[0].hash
    for gone in ("result.json", "weights.safetensors"):
        (folder / gone).unlink()
    shutil.rmtree(folder / "checkpoints" / "step-000000002")
    one = planned(warm({"from": "first/sequential", "stage": 1, "learned": ["noise"]}), tmp_path / "runs")
    assert one.run.folder == folder and one.run.status == "killed"
    runs.run(warm({"from": "first/sequential", "stage": 1, "learned": ["noise"]}), tmp_path / "runs", "cpu")
    assert tiny.same(weights_of(folder), weights_of(second.runs[0].folder))
    assert read_result(folder)["curve"] == second.runs[0].result()["curve"]


# ------------------------------------------------------------------------------------------------------------ hashes


def test_the_content_of_the_weights_makes_the_hash_and_not_its_wrapper(out: Path, tmp_path: Path) -> None:
    run = planned(warm("first/sequential/1"), out)
    assert run.weights is not None
    own = weights_of(run.weights.place.parent)
    torch.save({"state_dict": {f"module.{key}": value for key, value in own.items()}, "epoch": 3}, tmp_path / "a.pth")
    assert planned(warm(str(tmp_path / "a.pth")), out).run.hash == run.run.hash
    for value in own.values():
        value.add_(1e-3)
    torch.save(own, tmp_path / "a.pth")
    assert planned(warm(str(tmp_path / "a.pth")), out).run.hash != run.run.hash
    fresh = planned(made({"warm": SEQUENTIAL}), out).run.hash
    assert fresh == planned(warm("first/sequential", {"warm": {**SEQUENTIAL, "start": "initial"}}), out).run.hash
    assert fresh != planned(made({"warm": {**SEQUENTIAL, "start": "first/sequential"}}), out).run.hash


def test_an_experiment_that_another_process_reads_plans_the_same_run(out: Path) -> None:
    given = warm("first/single", {"warm": {**SEQUENTIAL, "start": {"from": "first/sequential", "learned": ["rain"]}}})
    assert planned(validate(given.resolved(), "again"), out).run.hash == planned(given, out).run.hash


def test_weights_of_other_seeds_do_not_make_their_runs_stale(out: Path) -> None:
    start = {"from": "first/sequential", "learned": ["noise"]}
    both, first = (plan.prepare(warm(start, seeds=seeds), out, "cpu") for seeds in ([0, 1], [0]))
    rows = [{"label": "warm", "seed": run.seed, "hash": run.hash} for run in both.runs]
    assert len({run.identity["start"]["weights"] for run in both.runs}) == 2
    assert [first.is_stale(row) for row in rows] == [False, False]
    other = plan.prepare(warm({"from": "first/sequential", "stage": 1, "learned": ["noise"]}), out, "cpu")
    assert [other.is_stale(row) for row in rows] == [True, True]


def test_a_run_whose_weights_are_lost_is_judged_by_the_rest(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out, tmp_path / "runs")
    both, first = (
        plan.prepare(warm("first/sequential", seeds=seeds), tmp_path / "runs", "cpu") for seeds in ([0, 1], [0])
    )
    row = {"label": "warm", "seed": 1, "hash": both.runs[1].hash}
    (tmp_path / "runs" / "first" / "runs.json").unlink()
    assert not first.is_stale(row)  # neither started nor refuted
    both.runs[1].folder.mkdir()
    write_config(both.runs[1].folder, both.runs[1].identity, {})
    assert not first.is_stale(row)
    edited = replace(first.planned[0].run, identity={**first.runs[0].identity, "patch": 24})
    assert replace(first, planned=[replace(first.planned[0], run=edited)]).is_stale(row)


# ------------------------------------------------------------------------------------------- what a new task leaves


def test_a_single_task_run_outlives_a_new_task(out: Path) -> None:
    strategies = {"single": {"curriculum": {"name": "single", "task": "noise"}}, "sequential": SEQUENTIAL}
    wider = made(strategies, steps=4, name="wider", tasks={"haze": {"degradation": "haze"}})
    single, sequential = plan.prepare(wider, out, "cpu").planned
    trained = rescoring.trained_alike(single.run)
    assert trained is not None and rescoring.trained_alike(sequential.run) is None
    done = runs.run(plan.narrowed_to(wider, ["single"], [], None), out, "cpu")
    result = done.runs[0].result()
    assert result["trained_as"] == trained.name and set(result["psnr"]) == {"noise", "rain", "haze"}
    assert tiny.same(weights_of(done.runs[0].folder), weights_of(trained))
    assert result["psnr"]["noise"] == read_result(trained)["psnr"]["noise"]


def test_it_does_not_where_its_training_may_depend_on_the_others(out: Path) -> None:
    def found(strategy: dict[str, Any] | None = None, **tasks: Any) -> Path | None:
        single = {"curriculum": {"name": "single", "task": "noise"}, **(strategy or {})}
        wider = made({"single": single}, steps=4, tasks={"haze": {"degradation": "haze"}, **tasks})
        return rescoring.trained_alike(planned(wider, out).run)

    assert found() is not None
    assert found({"retention": "lira"}) is None and found({"auxiliary": ["frequency"]}) is None
    assert found(noise={"degradation": "gaussian_noise", "sigma": [26]}) is None
    raw = {**made({"single": {"curriculum": {"name": "single", "task": "noise"}}}, steps=4).resolved()}
    raw["tasks"] = {"haze": {"degradation": "haze"}, **raw["tasks"]}  # noise has another number
    assert rescoring.trained_alike(planned(validate(raw, "moved"), out).run) is None


def test_a_group_without_the_new_task_keeps_its_hash(out: Path) -> None:
    """The members of a group are ordinary runs whose identity holds their own tasks alone."""
    hashes = []
    for tasks in ({}, {"haze": {"degradation": "haze"}}):
        one = planned(made({"joint": {}}, tasks=tasks), out)
        own = {name: one.tasks[name] for name in ("noise", "rain")}
        hashes.append(hash_of(identity_of(one.experiment, one.strategy, 0, own)))
    assert hashes[0] == hashes[1]


# -------------------------------------------------------------------------------------------- a loop without this code


def test_training_from_a_file_is_a_plain_fine_tuning_loop(out: Path, tmp_path: Path) -> None:
    source = planned(warm("first/sequential"), out)
    assert source.weights is not None
    torch.save({"params": weights_of(source.weights.place.parent)}, tmp_path / "mine.pth")
    steps = 4
    given = warm(str(tmp_path / "mine.pth"), {"warm": {"curriculum": {"name": "single", "task": "rain"}}}, steps=steps)
    one = planned(given, tmp_path / "runs")
    done = runs.run(given, tmp_path / "runs", "cpu")

    plain = torch.load(tmp_path / "mine.pth")["params"]
    network: Any = one.learner().model
    network.load_state_dict(plain)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for step in range(steps):
        batch = one.tasks["rain"].batch(torch.arange(6 * step, 6 * step + 6))
        loss = (network(batch.degraded) - batch.clean).abs().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    ours, theirs = weights_of(done.runs[0].folder), network.state_dict()
    apart = max(float((ours[key] - theirs[key]).abs().max()) for key in ours)
    moved = max(float((ours[key] - plain[key]).abs().max()) for key in ours)
    assert apart < 1e-6 < 1e-3 < moved


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("cause", "start", "says"),
    [
        ("a missing file", "mine.pth", r"start: mine\.pth: no such file"),
        ("an unknown run", "first/joint", r"start: no finished run 'first/joint' in .*; finished: first/sequential/0"),
        ("a shipped run", "quickstart/joint", r"`cmtl-ir run quickstart --strategy joint --seed 0` trains it"),
        ("a stage that the run lacks", {"from": "first/sequential", "stage": 3}, r"has the stages 1, 2; name one"),
        ("a run that is not finished", "begun/one", r"start: begun/one, seed 0, is not finished; run the experiment"),
    ],
)
@pytest.mark.error("start: {cause}")
def test_what_cannot_be_found_is_refused(cause: str, start: Any, says: str, out: Path) -> None:
    unfinished = plan.prepare(made({"one": {}}, steps=3, name="begun"), out, "cpu").runs
    (out / "begun").mkdir(exist_ok=True)
    listing.list_runs(out / "begun", [{"label": one.label, "seed": 0, "hash": one.hash} for one in unfinished])
    with pytest.raises(ConfigError, match=says):
        plan.prepare(warm(start), out, "cpu")


@pytest.mark.error("start: a seed that the run lacks")
def test_a_seed_without_weights_of_its_own_is_refused(out: Path) -> None:
    with pytest.raises(ConfigError, match=r"strategies\.warm\.start: first/sequential has no finished run of seed 2"):
        plan.prepare(made({"warm": {"start": "first/sequential"}}, seeds=[2]), out, "cpu")
    assert planned(made({"warm": {"start": "first/sequential/0"}}, seeds=[2]), out).weights is not None


@pytest.mark.error("start: a grouped strategy")
def test_a_grouped_strategy_is_refused(out: Path) -> None:
    grouped = {"warm": {"grouping": {"name": "manual", "groups": [["noise"], ["rain"]]}}}
    with pytest.raises(ConfigError, match=r"start: the groups of warm train networks of their own.*`initial`"):
        plan.prepare(warm("first/sequential", grouped), out, "cpu")


@pytest.mark.error("start: a stage of a file")
def test_a_file_has_no_stages(out: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(ConfigError, match="`stage` is for runs"):
        plan.prepare(warm({"from": str(tmp_path / "a.pth"), "stage": 1}), out, "cpu")


@pytest.mark.error("start: weights that do not fit")
def test_weights_of_another_width_stop_the_comparison_before_training(out: Path) -> None:
    wide = warm("first/sequential", {"warm": SEQUENTIAL, "new": {"start": "initial"}}, backbone={"width": 6})
    with pytest.raises(
        ConfigError, match=r"strategies\.warm: .*of another shape: intro\.weight \(4, 3, 3, 3\) instead"
    ):
        runs.run(wide, out, "cpu")


@pytest.mark.error("unlearn: exact methods after a start")
def test_exact_unlearning_needs_a_run_from_initial_weights(second: runs.Comparison) -> None:
    from tests.unlearning import cases

    for name in ("retrain", "sisa"):
        origin = SimpleNamespace(identity=second.runs[0].identity, name="warm.warm", kept=("noise", "rain"))
        job: Any = SimpleNamespace(origin=origin, method=cases.method(name), forget=("noise",), use_retain=True)
        with pytest.raises(UserError, match=rf"{name} trains again from where warm\.warm began.*may know noise"):
            refuse_impossible(job)


@pytest.mark.error("start: a name of several runs")
def test_a_name_of_several_runs_is_answered_with_those_alone(out: Path) -> None:
    with pytest.raises(UserError, match=r"several runs match .*: first/sequential/0, first/sequential/1; name one of"):
        find_run("first/sequential", out)
