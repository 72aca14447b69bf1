"""Negatives, keys and refusals of the contrasts: which images, which networks, which errors."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.runs.plan import prepare
from cmtl_ir.runs.probes import probe
from cmtl_ir.strategy.data import Batch, Stage
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.training.loop import train
from tests import tiny
from tests.objective.cases import TASKS, small, stepper
from tests.objective.test_values import made


def prepared(auxiliary: dict[str, Any], **over: Any) -> tuple[Any, Any, dict[str, Batch], Any]:
    """Learner, objective, the samples of a step by row, and what the objective prepares for them."""
    learner = small(auxiliary, **over)
    _, drawn, context = stepper(learner)
    (objective,) = learner.strategy.auxiliary
    batches = {row.name: batch for row, batch in zip(drawn.rows, drawn.batches, strict=True)}
    with torch.no_grad():
        return learner, objective, batches, objective.prepare(batches, learner, context)


# ------------------------------------------------------------------------------------------------------------ negatives


def test_negatives_of_a_composite_are_the_crop_under_every_other_degradation() -> None:
    learner, _, batches, found = prepared({"name": "composite_cr"})
    for row, batch in batches.items():
        others = [task for task in TASKS if task != row]
        for number, task in enumerate(others):
            again = learner.batch(task, batch.ids, images=row)
            assert torch.equal(again.clean, batch.clean)
            assert torch.equal(found[row].per_sample["negatives"][:, number], again.degraded)


def test_others_seen_are_the_tasks_trained_up_to_now() -> None:
    learner, objective, batches, found = prepared({"name": "composite_cr", "others": "seen"})
    assert {len(one.per_sample["negatives"][0]) for one in found.values()} == {2}
    objective.state.clear()
    objective.enter_stage(Stage("first", {"rain": 1.0}, 4), learner)
    alone = objective.prepare({"rain": batches["rain"]}, learner, None)["rain"]
    output = learner.restore(batches["rain"])
    assert not alone.per_sample and objective.losses(output, batches["rain"], alone).tolist() == [0.0, 0.0]
    objective.enter_stage(Stage("second", {"haze": 1.0}, 4), learner)
    later = objective.prepare({"haze": batches["haze"]}, learner, None)["haze"].per_sample["negatives"]
    rain = learner.batch("rain", batches["haze"].ids, images="haze").degraded
    assert torch.equal(later, rain[:, None])


def test_skip_paired_leaves_out_the_tasks_that_cannot_degrade() -> None:
    learner = small({"name": "composite_cr", "others": "skip_paired"})
    learner.task_of["rain"].degradation = None
    (objective,) = learner.strategy.auxiliary
    objective.enter_stage(Stage("all", dict.fromkeys(TASKS, 1 / 3), 4), learner)
    assert objective._others("noise", learner) == ["haze"] and objective._others("haze", learner) == ["noise"]
    learner.task_of["haze"].degradation = None
    with pytest.raises(ConfigError, match="composite_cr needs another task with a degradation than noise"):
        objective.enter_stage(Stage("all", dict.fromkeys(TASKS, 1 / 3), 4), learner)


def test_an_unrelated_negative_is_the_clean_image_of_another_sample() -> None:
    _, _, batches, found = prepared({"name": "cr", "negative": "unrelated"})
    negative = found["rain"].per_sample["negative"]
    assert negative.shape == batches["rain"].clean.shape and not torch.equal(negative, batches["rain"].clean)


def test_a_wrong_prompt_is_that_of_another_task() -> None:
    learner, _, batches, found = prepared({"name": "prompt_contrast"})
    for row, batch in batches.items():
        given = [learner.restore(Batch(t, batch.ids, batch.degraded, batch.clean)).restored for t in TASKS if t != row]
        for sample, negative in enumerate(found[row].per_sample["negatives"][:, 0]):
            assert any(torch.allclose(negative, one[sample], atol=1e-6) for one in given)


# ------------------------------------------------------------------------------------------------------------ snapshots


class Scalar(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))


def test_the_trace_of_a_snapshot() -> None:
    """theta(t) = 1 + t / 100, start .1 * 0 + .9 * 1, renewed every 100 steps by .1 theta_n + .9 theta."""
    objective: Any = made("snapshot_contrast", renew=[100])
    learner: Any = SimpleNamespace(model=Scalar(1.0), step=0, fresh_network=lambda number: Scalar(0.0))
    (copy,) = objective.networks(learner)
    trace = [copy.value.item()]
    for step in range(500):
        learner.step = step
        learner.model.value.data.fill_(1 + (step + 1) / 100)
        objective.after_step(learner)
        if (step + 1) % 100 == 0:
            trace.append(copy.value.item())
    assert trace == pytest.approx([0.9, 1.89, 2.889, 3.8889, 4.88889, 5.888889], abs=1e-12)
    assert objective.state["snapshots"]["0"]["value"].item() == trace[-1]


@pytest.mark.parametrize("form", ["subtract", "ratio"])
def test_copies_that_equal_the_network_have_distance_0_and_a_finite_gradient(form: str) -> None:
    auxiliary = {"name": "snapshot_contrast", "form": form, "keep": 0.0, "fresh": 0.0, "renew": [1]}
    learner, objective, batches, found = prepared(auxiliary)
    output = learner.restore(batches["rain"])
    losses = objective.losses(output, batches["rain"], found["rain"])
    if form == "subtract":
        assert losses.tolist() == [0.0, 0.0]
    losses.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in learner.model.parameters())


def test_difficulty_is_measured_again_after_so_many_steps_and_kept_in_the_state() -> None:
    auxiliary = {"name": "curricular_cr", "renew": [3], "every": 2, "probes": 2}
    learner = small(auxiliary, training={"steps": 5})
    train(learner, tiny.Silent())
    (objective,) = learner.strategy.auxiliary
    assert {task: known["step"] for task, known in objective.state["psnr"].items()} == dict.fromkeys(TASKS, 4)
    assert learner.model.training


def test_negatives_may_be_the_outputs_of_finished_runs() -> None:
    learner = small({"name": "quality_contrast", "negatives_of": ["abc"], "probes": 2})
    (objective,) = learner.strategy.auxiliary
    assert objective.needs == {"output", "runs"}
    with pytest.raises(UserError, match="the run abc is looked up in the store"):
        train(learner, tiny.Silent())
    other = learner.fresh_network(7).eval()
    learner = small({"name": "quality_contrast", "negatives_of": ["abc"], "probes": 2})
    learner.finished_runs = {"abc": other}.__getitem__
    (objective,) = learner.strategy.auxiliary
    _, drawn, context = stepper(learner)
    with torch.no_grad():
        found = objective.prepare({"rain": drawn.batches[1]}, learner, context)["rain"]
        assert torch.equal(found.per_sample["negatives"][:, 0], learner.restore(drawn.batches[1], other).restored)
    assert set(found.per_sample["weights"][:, 1].tolist()) <= {0.75, 1.25}


# ------------------------------------------------------------------------------------------------- keys of degradations


def test_negatives_are_keys_of_other_tasks_or_of_all() -> None:
    for negatives, expected in (("others", 4), ("all", 6)):
        auxiliary = {"name": "degradation_contrast", "negatives": negatives, "bank": 2}
        learner = small(auxiliary, training={"steps": 3, "batch": 9})
        train(learner, tiny.Silent())
        (objective,) = learner.strategy.auxiliary
        assert sorted(objective.state["bank"]) == sorted(TASKS)
        assert len(objective._bank("rain", learner)) == expected


def test_the_first_step_moves_the_restorer_as_without_contrast() -> None:
    ends = []
    for auxiliary in (None, {"name": "degradation_contrast"}):
        learner = small(auxiliary, training={"steps": 1, "clip": None})
        train(learner, tiny.Silent())
        ends.append(tiny.weights(learner))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_positives_are_another_crop_or_another_sample() -> None:
    for positives, needs in (("view", True), ("task", False)):
        auxiliary = {"name": "degradation_contrast", "positives": positives}
        _, objective, _, found = prepared(auxiliary)
        assert ("second_view" in objective.needs) is needs
        keys = found["rain"].per_sample["keys"]
        torch.testing.assert_close(keys.norm(dim=1), torch.ones(2))


# ----------------------------------------------------------------------------------------------------- learned features


def test_features_of_the_network_follow_it() -> None:
    auxiliary = {"name": "cr", "features": "backbone"}
    learner, objective, batches, _ = prepared(auxiliary)
    first = objective.maps(batches["rain"].clean, "rain")
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter.add_(1.0)
    objective.after_step(learner)
    moved = objective.state["features"]["first.bias"] - learner.model.state_dict()["first.bias"]
    torch.testing.assert_close(moved, torch.full_like(moved, -0.999))
    assert len(first) == 1 and not torch.equal(first[0], objective.maps(batches["rain"].clean, "rain")[0])


def test_features_of_airnet_s_encoder_and_of_a_network_without_one() -> None:
    from tests.objective.test_airnet_contrast import learner as airnet

    one = airnet({"auxiliary": {"name": "cr", "features": "encoder"}}, training={"steps": 2})
    train(one, tiny.Silent())
    (objective,) = one.strategy.auxiliary
    (found,) = objective.maps(torch.rand(2, 3, 8, 8), "rain")
    assert found.shape == (2, 64, 8, 8) and set(objective.state["features"]) == {
        name.removeprefix("E.E.encoder_q.E_pre.")
        for name in one.model.state_dict()
        if name.startswith("E.E.encoder_q.E_pre.")
    }
    with pytest.raises(ConfigError, match="features: encoder needs a backbone that names its encoder"):
        train(small({"name": "cr", "features": "encoder"}), tiny.Silent())


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("auxiliary", "over", "message"),
    [
        ("composite_cr", {"tasks": {"rain": None, "haze": None}}, "composite_cr needs other tasks, but the run"),
        ("prompt_contrast", {}, "prompt_contrast restores an image under another task's number, but the backbone does"),
        ({"name": "cr", "features": "vgg19", "file": "nothing.pth"}, {}, "nothing.pth: no such file"),
        ({"name": "curricular_cr", "negatives_of": ["other"]}, {}, "no finished run 'other'"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_any_run(tmp_path: Path, auxiliary: Any, over: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        probe(prepare(tiny.experiment({"one": {"auxiliary": auxiliary}}, **over), tmp_path, "cpu"))


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        ({"name": "cr", "features": "vgg19"}, "features: vgg19 needs `file`"),
        ({"name": "cr", "file": "some.pth"}, "file and normalise belong to vgg16 and vgg19, but features is haar"),
        ({"name": "composite_cr", "rows": "all"}, "composite_cr degrades the clean crops of stage rows"),
        ({"name": "snapshot_contrast", "renew": [0]}, "renew"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(auxiliary: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.experiment({"one": {"auxiliary": auxiliary}})


# ---------------------------------------------------------------------------------------------------------------- claio


def test_claio_s_contrast_is_distil_contrast_towards_the_previous_network() -> None:
    retention = {"name": "claio", "capacity": 6, "contrast": 0.5}
    learner = small(strategy={"curriculum": "sequential", "retention": retention}, training={"steps": 6})
    train(learner, tiny.Silent())
    part = learner.strategy.retention
    assert part is not None
    (row,) = part.rows(Stage("rain", {"rain": 1.0}, 2), learner)[:1]
    plain = type(part)(capacity=6)  # type: ignore[call-arg]
    plain.load_state_dict(part.state)
    (without,) = plain.rows(Stage("rain", {"rain": 1.0}, 2), learner)[:1]
    assert row.loss is not None and without.loss is not None
    batch = learner.batch(row.task, torch.arange(2))
    with torch.no_grad():
        output = learner.restore(batch)
        teacher = learner.fresh_network(0)
        teacher.load_state_dict(part.state["previous"])
        target: Tensor = learner.restore(batch, teacher).restored
        towards = Batch(batch.task, batch.ids, batch.degraded, target)
        term = made("distil_contrast").losses(output, towards, Constants("memory"))
        torch.testing.assert_close(row.loss(output, batch), without.loss(output, batch) + 0.5 * term)
