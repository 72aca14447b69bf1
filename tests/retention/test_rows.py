"""Retentions that add rows: content of the rows, neutral settings, and equalities between methods."""

from __future__ import annotations

import pytest
import torch

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategies.retention.der import outputs_of
from cmtl_ir.strategy.data import Row
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.samples import draw
from tests import tiny

from .cases import ROWS, SHORT, part, sequential, stage, strategy, trained

ZERO = {
    **{label: {"share": 0.0} for label in ROWS},
    "replay-strength": {"strength": 0.0},
    "distill-strength": {"strength": 0.0},
    "degradation_replay-strength": {"strength": 0.0},
    "pseudo_replay-strength": {"strength": 0.0},
    "der-alpha": {"alpha": 0.0},
    "der_plus_plus-both": {"alpha": 0.0, "beta": 0.0},
    "replay-capacity": {"capacity": 0},
    "gem-capacity": {"capacity": 0},
}


@pytest.mark.parametrize("label", ZERO)
def test_a_weight_or_share_of_0_is_sequential_bit_for_bit(label: str) -> None:
    learner, _ = trained(strategy(label, **ZERO[label]), **SHORT)
    assert tiny.same(tiny.weights(sequential()), tiny.weights(learner))


@pytest.mark.parametrize("label", ROWS)
def test_with_its_defaults_it_is_not_sequential_from_the_second_stage_on(label: str) -> None:
    learner, watcher = trained(strategy(label), **SHORT)
    assert not tiny.same(tiny.weights(sequential()), tiny.weights(learner))
    guard = "distill:rain" if label == "distill-new" else "memory:noise"
    assert [result.rows for result in watcher.results] == [["noise"]] * 2 + [["rain", guard]] * 2


def test_the_first_stage_costs_nothing() -> None:
    for label in ("agem", "gem"):
        _, watcher = trained(strategy(label), **SHORT)
        assert [result.surgery is None for result in watcher.results] == [True, True, False, False]


def test_old_tasks_split_the_share_equally() -> None:
    _, watcher = trained(strategy("der_plus_plus"), training={"steps": 12, "batch": 12})
    learner = tiny.learner(strategy("replay"))
    retention = learner.strategy.retention
    retention.begin_stage(stage("noise"), learner)
    for task in ("noise", "rain"):
        retention.memory.see(task, torch.arange(40))
    retention.end_stage(stage("rain"), learner)
    rows = retention.rows(stage("haze"), learner)
    assert [(row.name, row.share, row.coefficient, len(row.memory)) for row in rows] == [
        ("memory:noise", 0.25, 1.0, 6), ("memory:rain", 0.25, 1.0, 6),
    ]  # fmt: skip
    assert sorted(watcher.results[-1].rows) == ["haze", "memory:noise", "memory:rain", "target:noise", "target:rain"]


def test_replay_of_everything_is_cumulative_to_rounding() -> None:
    cumulative = {"name": "cumulative", "last": 1, "restarts": 1}
    mixed, reference = trained({"curriculum": cumulative}, conflict={"every": 0})
    replayed, watcher = trained(strategy("replay-all"), conflict={"every": 0})
    assert replayed.data.counters == mixed.data.counters
    for one, other in zip(reference.results, watcher.results, strict=True):
        by_task = dict(zip((row.rpartition(":")[2] for row in other.rows), other.losses.tolist(), strict=True))
        assert [by_task[row] for row in one.rows] == pytest.approx(one.losses.tolist(), rel=1e-4)
    for name, value in mixed.model.state_dict().items():
        torch.testing.assert_close(replayed.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_a_task_that_the_stage_trains_needs_no_protection() -> None:
    learner, watcher = trained(strategy("replay", curriculum="cumulative"))
    assert learner.step == 12
    assert all(":" not in row for result in watcher.results for row in result.rows)


# --------------------------------------------------------------------------------------- degradation replay


def test_degradation_replay_is_the_old_degradation_on_the_new_image_with_the_true_target() -> None:
    learner = tiny.learner({})
    (batch,) = draw(learner, [Row("memory:noise", "noise", 1.0, 1.0, images="haze")], [3]).batches
    ids = torch.arange(3)
    assert batch.task == "noise" and batch.ids.tolist() == [0, 1, 2]
    assert torch.equal(batch.clean, learner.batch("haze", ids).clean)
    old = learner.batch("noise", ids)  # the same noise, on other images, where neither is clipped to [0, 1]
    free = ((batch.degraded > 0) & (batch.degraded < 1) & (old.degraded > 0) & (old.degraded < 1)).nonzero(
        as_tuple=True
    )
    assert len(free[0]) > 1000
    torch.testing.assert_close(
        (batch.degraded - batch.clean)[free], (old.degraded - old.clean)[free], rtol=0, atol=1e-6
    )
    assert learner.data.counters == {"memory of memory:noise": 3}  # neither task's own stream has moved


def test_degradation_replay_refuses_pairs_by_name_before_training(tmp_path) -> None:
    from PIL import Image

    for side in ("in", "gt"):
        (tmp_path / side).mkdir()
        for n in range(2):
            Image.new("RGB", (32, 32), (n, 40, 90)).save(tmp_path / side / f"{n}.png")
    pairs = {"input": str(tmp_path / "in"), "target": str(tmp_path / "gt"), "degradation": None}
    for label in ("degradation_replay", "pseudo_replay"):
        learner = tiny.learner(strategy(label), tasks={"rain": pairs})
        with pytest.raises(ConfigError, match=f"{label} cannot protect rain"):
            train(learner, tiny.Silent())
        assert learner.step == 0


# ----------------------------------------------------------------------------------------------- distillation


class Halfway(tiny.Silent):
    """Keeps the weights with which each stage begins."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[dict[str, torch.Tensor]] = []

    def stage_started(self, learner: Learner, stage) -> None:
        self.starts.append(tiny.weights(learner))


@pytest.mark.parametrize("label", ["distill", "distill-new", "claio", "pseudo_replay"])
def test_the_teacher_is_the_network_as_it_was_at_the_stage_s_start(label: str) -> None:
    learner, watcher = tiny.learner(strategy(label), **SHORT), Halfway()
    train(learner, watcher)
    kept = learner.strategy.retention.state["previous"]
    assert tiny.same(watcher.starts[1], kept) and not tiny.same(tiny.weights(learner), kept)
    (row,) = learner.strategy.retention.rows(stage("rain"), learner)
    batch = learner.batch(row.task, torch.tensor([1, 2]))
    with torch.no_grad():
        learner.model.load_state_dict(kept)
        at_start = learner.restore(batch).restored
        assert row.loss(Output.of(at_start), batch).tolist() == [0.0, 0.0]
        assert row.loss(Output.of(at_start + 0.25), batch).tolist() == pytest.approx([0.25, 0.25], rel=1e-5)


def test_claio_keeps_its_share_of_500_rounded_up() -> None:
    from cmtl_ir.strategies.retention.claio import CLAIO

    assert (CLAIO().capacity, CLAIO().policy, CLAIO().strength) == (500, "balanced_up", 1.0)
    learner, _ = trained(strategy("claio"))
    kept = learner.strategy.retention.memory.kept
    assert [len(ids) for ids in kept.values()] == [5, 5, 5]  # ceil(13 / 3)


def test_der_s_targets_are_the_outputs_at_the_end_of_the_own_stage_and_never_change() -> None:
    learner, watcher = tiny.learner(strategy("der")), Halfway()
    train(learner, watcher)
    outputs = learner.strategy.retention.state["outputs"]
    assert set(outputs) == {"noise", "rain", "haze"}
    final = tiny.weights(learner)
    ends = dict(zip(("noise", "rain", "haze"), [*watcher.starts[1:], final], strict=True))
    for task, stored in outputs.items():
        assert stored["ids"].tolist() == learner.strategy.retention.memory.kept[task]
        learner.model.load_state_dict(ends[task])
        with torch.no_grad():
            now = learner.restore(learner.batch(task, stored["ids"])).restored
        torch.testing.assert_close(stored["values"], now, rtol=1e-5, atol=1e-6)


def test_der_s_loss_looks_up_the_output_of_each_id() -> None:
    learner, _ = trained(strategy("der"), **SHORT)
    retention = learner.strategy.retention
    (row,) = retention.rows(stage("rain"), learner)
    stored = retention.state["outputs"]["noise"]
    picked = torch.tensor([2, 0])
    batch = learner.batch("noise", stored["ids"][picked])
    assert row.loss(Output.of(stored["values"][picked]), batch).tolist() == [0.0, 0.0]
    assert min(row.loss(Output.of(stored["values"][picked.flip(0)]), batch).tolist()) > 0


def test_outputs_that_are_known_are_not_computed_again() -> None:
    learner = tiny.learner({})
    known = outputs_of(learner, "rain", [1, 5], None)
    known["values"].zero_()
    more = outputs_of(learner, "rain", [1, 4, 5], known)
    assert more["ids"].tolist() == [1, 4, 5]
    assert [bool(value.any()) for value in more["values"]] == [False, True, False]


def test_der_plus_plus_draws_twice_independently() -> None:
    learner = tiny.learner(strategy("der_plus_plus"))
    train(learner, tiny.Silent())
    rows = learner.strategy.retention.rows(stage("haze"), learner)
    named = {row.name: row for row in rows}
    assert list(named) == ["memory:noise", "memory:rain", "target:noise", "target:rain"]
    assert [row.share for row in rows] == [0.125] * 4
    assert [row.coefficient for row in rows] == [0.3, 0.3, 0.5, 0.5]
    assert named["target:noise"].loss is None and named["memory:noise"].loss is not None
    assert named["target:noise"].memory == named["memory:noise"].memory
    first, second = (learner.data.draw(named[f"{kind}:noise"], 4, 0).tolist() for kind in ("memory", "target"))
    assert first != second


@pytest.mark.parametrize("engine", ["stream", "grouped"])
@pytest.mark.parametrize("label", ["distill", "der"])
def test_rows_with_their_own_loss_go_through_surgery_in_either_engine(label: str, engine: str) -> None:
    # A smooth loss: L1 against one's own output starts at 0, where its gradient is the sign of rounding errors.
    training = {"steps": 4, "engine": engine, "loss": "charbonnier", "optimizer": {"lr": 1e-3}}
    joint, _ = trained(strategy(label), **{**SHORT, "training": training})
    by_row, watcher = trained(strategy(label), look_every=1, **{**SHORT, "training": training})
    assert all(result.gramian is not None for result in watcher.results)
    for name, value in joint.model.state_dict().items():
        torch.testing.assert_close(by_row.model.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.error("strategy: a misspelt field")
def test_a_misspelt_field_is_an_error_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean capacity"):
        tiny.experiment({"one": {"retention": part("replay", capacitiy=3)}})
