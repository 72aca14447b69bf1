"""Exact unlearning equals, bit for bit, a run that never saw the forgotten task."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store import checkpoint
from cmtl_ir.store.run import hash_of
from cmtl_ir.strategies.unlearning.sisa import Slices
from cmtl_ir.training.loop import train
from cmtl_ir.unlearning.origin import Origin, find_origin
from cmtl_ir.unlearning.planning import plan, reference_identity
from cmtl_ir.unlearning.requests import Done, cost, runs_of
from tests import tiny

from . import cases


def ordinary(without: str, strategy: dict[str, Any], **training: int) -> dict[str, Tensor]:
    """Weights of an ordinary run of an experiment that never had the task; no store could answer for it."""
    learner = tiny.learner(strategy, tasks={without: None}, training=training)
    assert without not in learner.tasks
    train(learner, tiny.Silent(look_every=4))
    return tiny.weights(learner)


@pytest.mark.parametrize("task", ["haze", "noise"])
def test_retrain_equals_a_fresh_run_without_the_task_and_its_share_of_the_batch(joint: Origin, task: str) -> None:
    learner = cases.forgotten(cases.job(joint, "retrain", (task,)), tiny.Silent(look_every=4))
    assert tiny.same(tiny.weights(learner), ordinary(task, {}, batch=4))


@pytest.mark.parametrize("task", ["haze", "rain", "noise"])
def test_lineage_equals_a_run_in_another_store_that_never_saw_the_task(sequential: Origin, task: str) -> None:
    learner = cases.forgotten(cases.job(sequential, "lineage", (task,)), tiny.Silent(look_every=4))
    assert tiny.same(tiny.weights(learner), ordinary(task, {"curriculum": "sequential"}, steps=8))


def test_lineage_goes_on_from_the_stage_before_the_task(sequential: Origin) -> None:
    begun = [cases.learner_of(plan(cases.job(sequential, "lineage", (task,)))) for task in ("haze", "rain", "noise")]
    assert [learner.step for learner in begun] == [8, 4, 0]


def test_lineage_of_a_joint_run_is_the_retrained_run_itself(joint: Origin) -> None:
    one, other = (plan(cases.job(joint, name)).run for name in ("lineage", "retrain"))
    assert one.hash == other.hash == hash_of(reference_identity(cases.job(joint, "retrain")))


def test_the_order_of_requests_does_not_matter_to_retraining(joint: Origin) -> None:
    one, other = (
        reference_identity(cases.job(joint, "retrain", forget)) for forget in (("haze", "rain"), ("rain", "haze"))
    )
    assert hash_of(one) == hash_of(other)


# ---------------------------------------------------------------------------------------------------------- sisa


@pytest.fixture(scope="module")
def two_stores(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Origin, Origin]:
    """The same joint run in two folders that know nothing of each other."""
    copies = [tmp_path_factory.mktemp(name) / "runs" for name in ("one", "other")]
    for copy in copies:
        shutil.copytree(store, copy)
    one, other = (find_origin("tiny/joint", copy, "cpu") for copy in copies)
    return one, other


def out_of(origin: Origin) -> Path:
    return origin.folder.parent.parent


def last_slice_id(shards: int, slices: int) -> int:
    """A draw of haze that only the last slice of its shard has."""
    samples = {"haze": 24}
    for shard in range(shards):
        one = Slices(shard=shard, shards=shards, slices=slices, samples=samples, without={}, batch=6)
        late = set(one.members("haze", slices)) - set(one.members("haze", slices - 1))
        if late:
            return min(late)
    raise AssertionError("no draw is in a last slice")


def test_sisa_without_some_draws_equals_training_from_scratch_without_them(two_stores: tuple[Origin, Origin]) -> None:
    fields: dict[str, Any] = {"shards": 2, "slices": 2}
    gone = {"haze": [last_slice_id(2, 2)]}
    one, other = two_stores
    cases.finished(cases.job(one, "sisa", ids={"haze": []}, **fields), out_of(one))
    asked = cases.job(one, "sisa", ids=gone, **fields)
    resumed = cases.finished(asked, out_of(one))
    scratch = cases.finished(cases.job(other, "sisa", ids=gone, **fields), out_of(other))
    assert tiny.same(cases.weights_in(resumed), cases.weights_in(scratch))
    before = sum(planned.run.result()["steps"] for planned in runs_of(asked))
    assert 0 < cost(Done(asked, runs_of(asked)))[0] < before / 2  # one shard's last slice


def test_sisa_by_task_deletes_the_task_s_constituent_and_trains_nothing(two_stores: tuple[Origin, Origin]) -> None:
    one, other = two_stores
    whole = cases.job(one, "sisa", ids={"haze": []}, shard_by="task")
    made = cases.finished(whole, out_of(one))
    asked = cases.job(one, "sisa", shard_by="task")
    kept = cases.finished(asked, out_of(one))
    scratch = cases.finished(cases.job(other, "sisa", shard_by="task"), out_of(other))
    assert tiny.same(cases.weights_in(kept), cases.weights_in(scratch))
    before = cases.weights_in(made)
    survivors = {name: value for name, value in before.items() if not name.startswith("members.2.")}
    assert tiny.same(cases.weights_in(kept), survivors)
    assert cost(Done(asked, runs_of(asked)))[0] == 0


def test_every_draw_is_in_exactly_one_shard_and_slices_grow() -> None:
    shards = [Slices(shard=i, shards=3, slices=2, samples={"haze": 60}, without={}, batch=6) for i in range(3)]
    whole = [one.members("haze", 2) for one in shards]
    assert sorted(n for ids in whole for n in ids) == list(range(60)) and all(whole)
    assert all(set(one.members("haze", 1)) < set(one.members("haze", 2)) for one in shards)


def test_forgetting_a_draw_touches_the_slices_that_hold_it_and_no_other() -> None:
    fields = {"shards": 3, "slices": 2, "batch": 6, "samples": {"haze": 60, "rain": 60}}
    for shard in range(3):
        whole, without = (Slices(shard=shard, without=gone, **fields) for gone in ({}, {"haze": [7]}))
        hit = 7 in whole.members("haze", 2)
        assert (whole.stages() == without.stages()) != hit


def test_the_ensemble_answers_with_the_mean_of_its_members(two_stores: tuple[Origin, Origin]) -> None:
    run = cases.finished(cases.job(two_stores[0], "sisa", shard_by="task"), out_of(two_stores[0]))
    model, _ = load_model(run.folder, torch.device("cpu"))
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    parts = [
        load_model(planned.run.folder, torch.device("cpu"))[0]
        for planned in runs_of(cases.job(two_stores[0], "sisa", shard_by="task"))[:-1]
    ]
    with torch.no_grad():
        mean = sum(part(image) for part in parts) / len(parts)
        assert len(parts) == 2 and torch.allclose(model(image), mean, atol=1e-6)


@pytest.mark.error("unlearn: a checkpoint that is gone")
def test_a_stage_end_that_is_gone_is_named_with_the_way_out(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    shutil.copytree(store, out)
    origin = find_origin("tiny/sequential", out, "cpu")
    shutil.rmtree(origin.folder / "stages")
    with pytest.raises(UserError, match=r"no checkpoint of stage.*--method retrain"):
        plan(cases.job(origin, "lineage"))
    assert plan(cases.job(origin, "retrain")).run.status == "new"
    assert checkpoint.newest_step(origin.folder / "checkpoints") is not None
