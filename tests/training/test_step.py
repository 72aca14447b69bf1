"""From row gradients to one update: how weights compose, which rows surgery sees, what stops a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import PrivateAttr
from torch import Tensor
from torch.testing import assert_close

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.config import reading
from cmtl_ir.gradients.rows import RowGradients
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.data import Batch, Row, Stage, StepContext
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Surgery
from cmtl_ir.tasks.suite import build_tasks
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.samples import draw
from cmtl_ir.training.step import NonFinite, Stepper, StepResult
from tests import tiny

TASKS = ("noise", "rain", "haze")
ROWS = [Row(task, task, 1 / 3) for task in TASKS]


class Spy(Surgery):
    """Keeps what it is shown, and gives the weights 1, 2, 3 ... / 10."""

    _seen: list[tuple[Tensor, tuple[str, ...]]] = PrivateAttr(default_factory=list)

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        self._seen.append((gramian, context.rows))
        return torch.arange(1.0, len(gramian) + 1, dtype=torch.float64) / 10


def step(
    rows: Sequence[Row], strategy: dict[str, Any] | None = None, spy: bool = True, **overrides: Any
) -> tuple[Learner, StepResult, Tensor, Tensor]:
    """(learner, result, raw row gradients [M, P], update [P]) of one step with two samples a row."""
    learner = tiny.learner(strategy, **overrides)
    if spy:
        learner.strategy = learner.strategy.model_copy(update={"surgery": Spy()})
    own = {row.name: row.share for row in rows if row.coefficient is None}
    learner.start_stage(Stage("all", own, 3))
    engine = RowGradients(learner.model, len(rows), "stream")
    drawn = draw(learner, rows, [2] * len(rows))
    context = StepContext(0, "all", tuple(row.name for row in drawn.rows), tuple(drawn.counts), 0)
    result = Stepper(learner, rows, engine).update(drawn, context)
    update = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in engine.parameters]
    )
    gradients = torch.stack([torch.cat([view.flatten() for view in row]) for row in engine.row_views])
    return learner, result, gradients.double(), update.double()


def spied(learner: Learner) -> tuple[Tensor, tuple[str, ...]]:
    assert isinstance(learner.strategy.surgery, Spy)
    (seen,) = learner.strategy.surgery._seen
    return seen


# --------------------------------------------------------------------------------------- weights and surgery


def test_a_weighting_and_a_surgery_compose() -> None:
    """Manual 1, 2, 3: w = .5, 1, 1.5 and c = w / 3; surgery sees r_k = 3 c_k g_k, and v = .1, .2, .3 of these."""
    weighting = {"weighting": {"name": "manual", "by_task": {"noise": 1, "rain": 2, "haze": 3}}}
    learner, result, gradients, update = step(ROWS, weighting)
    factors = torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    scaled = factors[:, None] * gradients
    assert result.weights.tolist() == pytest.approx(factors.tolist())
    assert_close(spied(learner)[0], scaled @ scaled.T, rtol=1e-9, atol=0)
    assert_close(update, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64) @ scaled, rtol=1e-4, atol=1e-7)


def test_a_row_of_weight_zero_is_dropped_before_surgery() -> None:
    """Left in, a zero row would take all of MGDA's weight, and the network would stand still."""
    weighting = {"weighting": {"name": "manual", "by_task": {"noise": 0.0}}}
    learner, _, gradients, update = step(ROWS, weighting)
    gramian, names = spied(learner)
    assert names == ("rain", "haze") and gramian.shape == (2, 2)
    assert_close(update, torch.tensor([0.1, 0.2], dtype=torch.float64) @ gradients[1:], rtol=1e-4, atol=1e-7)
    _, _, _, moved = step(ROWS, {**weighting, "surgery": "mgda"}, spy=False)
    assert float(moved.norm()) > 0


def silent(output: Output, batch: Batch) -> Tensor:
    return 0.0 * output.restored.mean((1, 2, 3))


def broken(output: Output, batch: Batch) -> Tensor:
    return float("nan") * output.restored.mean((1, 2, 3))


def test_a_row_whose_gradient_vanishes_stays() -> None:
    learner, *_ = step([*ROWS[:2], replace(ROWS[2], loss=silent)])
    gramian, names = spied(learner)
    assert names == TASKS and float(gramian[2, 2]) == 0.0 < float(gramian[0, 0])


def test_a_negative_coefficient_turns_its_row_round() -> None:
    forget = Row("forget:haze", "haze", 1 / 3, -0.5)
    learner, _, gradients, _ = step([*ROWS[:2], forget])
    gramian, _ = spied(learner)
    assert torch.equal(gramian[0, 2].sign(), -(gradients[0] @ gradients[2]).sign())


def test_a_gradient_that_is_no_number_stops_the_run_with_the_names_of_its_rows() -> None:
    with pytest.raises(NonFinite, match="rain"):
        step([ROWS[0], replace(ROWS[1], loss=broken), ROWS[2]])


METHODS = [(family, name) for family in ("weighting", "surgery") for name in registry.names(family)]
KEEPING = ("art", "famo", "gradnorm", "gradvac", "db_mtl", "uncertainty")


@pytest.mark.parametrize(("names", "batch"), [([name for _, name in METHODS], 2), (KEEPING, 1)], ids=["two", "one"])
def test_methods_bear_absent_tasks_and_a_single_row(names: Sequence[str], batch: int) -> None:
    """Three tasks share a batch of two, or of one for what keeps state: a step has fewer rows than there are tasks."""
    fields = {"manual": {"by_task": {"rain": 2.0}}}
    strategies = {name: {family: {"name": name, **fields.get(name, {})}} for family, name in METHODS if name in names}
    training = {"steps": 2, "batch": batch, "engine": "stream"}
    made, device = tiny.experiment(strategies, training=training), torch.device("cpu")
    tasks = build_tasks(made.tasks, made.data, 0, device)
    for name, strategy in made.strategies.items():
        learner, watcher = Learner(made, strategy, tasks, 0, device), tiny.Silent()
        train(learner, watcher)
        assert {len(result.rows) for result in watcher.results} == {batch}, name
        assert all(torch.isfinite(value).all() for value in learner.model.state_dict().values()), name


# ------------------------------------------------------------- which parameters, how many samples, which blocks


def test_rows_are_compared_on_shared_blocks_and_all_parameters_move() -> None:
    learner, _, gradients, update = step(ROWS, training={"shared": ["encoders*"]})
    names = [(name, p.numel()) for name, p in learner.model.named_parameters()]
    kept = torch.cat([torch.full((size,), name.startswith("encoders")) for name, size in names])
    assert_close(spied(learner)[0], gradients[:, kept] @ gradients[:, kept].T, rtol=1e-9, atol=0)
    v = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    assert 0 < int(kept.sum()) < len(kept)
    assert_close(update, v @ gradients, rtol=1e-4, atol=1e-7)


@pytest.mark.error("training: patterns that match no parameter")
def test_patterns_without_parameters_and_methods_on_rows_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"training\.shared: no parameter matches 'encoder\.'"):
        step(ROWS, training={"shared": ["encoder."]})
    with pytest.raises(ConfigError, match=r"conflict\.blocks\.first: no parameter"):
        step(ROWS, conflict={"blocks": {"first": ["nothing*"]}})
    with pytest.raises(UserError, match=r"training\.shared"):
        step(ROWS, {"surgery": "graddrop"}, spy=False, training={"shared": ["encoders*"]})


@pytest.mark.parametrize("strategy", [{}, {"surgery": "pcgrad"}], ids=["joint", "pcgrad"])
def test_micro_batches_end_in_the_same_weights_and_no_pass_holds_more(strategy: dict[str, Any]) -> None:
    ends, sizes = [], list[int]()
    for fields in ({}, {"micro_batch": 2}):
        learner = tiny.learner(strategy, training={"steps": 3, "batch": 9, **fields})
        if fields:
            learner.model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        train(learner, tiny.Silent())
        ends.append(tiny.weights(learner))
    assert set(sizes) == {1, 2}  # three samples a row
    for name, value in ends[0].items():
        assert_close(ends[1][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.error("training: micro-batches with a joint pass")
def test_micro_batches_and_one_joint_pass_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="micro_batch needs the engine stream"):
        tiny.experiment(training={"micro_batch": 1, "engine": "grouped"})


def test_fields_that_ask_for_nothing_are_not_written() -> None:
    """So a run made before they existed keeps its identity, and its folder."""
    plain, asked = tiny.experiment(), tiny.experiment(training={"micro_batch": 2, "shared": ["intro*"]})
    assert not {"micro_batch", "shared"} & set(plain.resolved()["training"])
    assert reading.validate(asked.resolved(), "again").training == asked.training


def test_the_blocks_of_a_logged_step_sum_to_the_whole() -> None:
    blocks = {"outside": ["intro*", "ending*"], "inside": ["encoders*", "middle*", "decoders*", "ups*", "downs*"]}
    learner, watcher = tiny.learner(conflict={"blocks": blocks}), tiny.Silent(look_every=5)
    train(learner, watcher)
    logged = [result for result in watcher.results if result.gramian is not None]
    assert len(logged) == 3 and all(set(result.blocks) == set(blocks) for result in logged)
    for result in logged:
        assert_close(result.blocks["outside"] + result.blocks["inside"], result.gramian, rtol=1e-10, atol=0)


# -------------------------------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("surgery", "is_said"),
    [
        *(("nash_mtl", True), ("imtl_g", True), ("config", True), ("fairgrad", True)),
        *(({"name": "fairgrad", "alpha": 2.0}, False), ("pcgrad", False), (None, False)),
    ],
)
def test_a_weighting_that_changes_lengths_alone_is_said(
    surgery: Any, is_said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from cmtl_ir.base import yaml

    parts = {"surgery": surgery} if surgery else {}
    raw = {**tiny.RAW, "strategies": {"plain": parts, "both": {"weighting": "equal", **parts}}}
    (tmp_path / "one.yaml").write_text(yaml.dump(raw))
    reading.load(tmp_path / "one.yaml")
    said = [record.getMessage() for record in caplog.records if "length of its steps" in record.getMessage()]
    assert len(said) == is_said and all(text.startswith("strategies.both") for text in said)
