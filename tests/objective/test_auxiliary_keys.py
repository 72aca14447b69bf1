"""Keys of auxiliary objectives: neutral values, schedule, visibility to weighting and surgery, names and mistakes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from cmtl_ir.backbones import build
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.reading import validate
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.data import Row
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from tests import tiny
from tests.objective import own as classes
from tests.objective.cases import CASES, OWN, TASKS, small, stepper

# ---------------------------------------------------------------------------------------------------------- neutrality


@pytest.mark.parametrize(
    "auxiliary",
    [[], None, {"name": "l1", "weight": 0}, [{"name": f"{OWN}:Bank", "from": 1.0}, {"name": "ssim", "weight": 0.0}]],
    ids=["empty", "null", "weight", "from"],
)
def test_what_never_acts_is_not_built_and_changes_neither_a_bit_nor_the_identity(auxiliary: Any) -> None:
    plain, neutral = small(training={"steps": 3}), small([], training={"steps": 3}, strategy={"auxiliary": auxiliary})
    assert neutral.strategy.auxiliary == () and type(neutral.model) is type(plain.model)
    for learner in (plain, neutral):
        train(learner, tiny.Silent())
    assert tiny.same(tiny.weights(plain), tiny.weights(neutral))
    experiments = [tiny.experiment({"one": one}) for one in ({}, {"auxiliary": auxiliary})]
    tasks = tiny.build_tasks(experiments[0].tasks, experiments[0].data, 0, torch.device("cpu"))
    one, other = (identity_of(made, made.strategies["one"], 0, tasks) for made in experiments)
    assert one == other and "auxiliary" not in one["strategy"]


def test_an_empty_bank_leaves_the_first_step_s_restorer_as_it_is() -> None:
    ends = []
    for auxiliary in (None, CASES["Bank"]):
        learner = small(auxiliary, training={"steps": 1, "clip": None})
        train(learner, tiny.Silent())
        ends.append(tiny.weights(learner))
    assert set(ends[1]) - set(ends[0]) == {"auxiliary.bank.1.weight", "auxiliary.bank.1.bias"}
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_heads_do_not_make_runs_incomparable_and_describe_speaks_yaml() -> None:
    from cmtl_ir.analysis.data.fairness import meaning_of
    from cmtl_ir.config.catalogue import describe

    plain: dict[str, Any] = {"name": f"{OWN}:Small", "seed": 0}
    with_head = small(CASES["Bank"]).strategy.backbone(plain, TASKS)
    assert with_head != plain
    assert meaning_of({"backbone": with_head}, 3) == meaning_of({"backbone": plain}, 3)
    fields = [name for name, *_ in describe("objective/frequency").fields]
    assert fields == ["weight", "rows", "stages", "from", "until", "ramp", "norm"]


def test_a_built_objective_is_part_of_the_identity_and_is_read_again() -> None:
    made = tiny.experiment({"one": {"auxiliary": {"name": "frequency", "from": 0.25}, "weighting_sees": "total"}})
    plain = made.resolved()
    (stored,) = plain["strategies"]["one"]["auxiliary"]
    assert stored == {
        "name": "frequency", "weight": 0.1, "rows": "stage", "stages": None, "from": 0.25, "until": 1.0,
        "ramp": "none", "norm": "backward",
    }  # fmt: skip
    assert plain["strategies"]["one"]["weighting_sees"] == "total"
    assert validate(plain, "again").resolved() == plain
    with_head = small(CASES["Bank"])
    fields = with_head.strategy.backbone({"name": f"{OWN}:Small", "seed": 0}, TASKS)
    assert fields["name"] == "headed" and set(fields["heads"]) == {"bank"}
    build(**fields).load_state_dict(with_head.model.state_dict())


# ------------------------------------------------------------------------------------------------------------- schedule


def test_the_weight_in_its_window_and_under_the_ramp() -> None:
    """The ramp's values are those of Semi-UIR's consistency weight: .2 after 100 of 100 epochs."""
    frequency: Any = registry.load("objective", "frequency")
    ramped = frequency(weight=0.2, ramp="sigmoid")
    found = [ramped.weight_at("s", progress) for progress in (0.0, 0.25, 0.5)]
    assert found == pytest.approx([0.001347589, 0.012010934, 0.057300959], rel=1e-6)
    part = frequency.model_validate({"weight": 2.0, "from": 0.25, "until": 0.75, "stages": ["a"]})
    assert [part.weight_at("a", progress) for progress in (0.2, 0.25, 0.5, 0.75)] == [0.0, 2.0, 2.0, 0.0]
    assert part.weight_at("b", 0.5) == 0.0


def test_where_it_does_not_act_nothing_of_it_is_called() -> None:
    classes_of_file: Any = registry.load("objective", f"{OWN}:Noting")
    classes_of_file.calls.clear()
    auxiliary = {"name": f"{OWN}:Noting", "from": 0.5, "until": 0.75}
    learner = small(auxiliary, training={"steps": 8, "batch": 3})
    train(learner, tiny.Silent())
    steps = {call[1] for call in classes_of_file.calls if call[0] != "losses"}
    assert steps == {4, 5} and classes_of_file.calls[0] == ("prepare", 4, ["haze", "noise", "rain"])
    kinds = [kind for kind, _ in itertools.groupby(call[0] for call in classes_of_file.calls)]
    assert kinds == ["prepare", "losses", "after_step"] * 2


def test_protecting_rows_carry_it_under_all_only_and_a_row_may_refuse() -> None:
    from cmtl_ir.training.auxiliaries import carries

    frequency: Any = registry.load("objective", "frequency")
    stage, guard = Row("rain", "rain", 0.5), Row("memory:rain", "rain", 0.5, 1.0)
    projected, shy = Row("memory:rain", "rain", 0.5, projected=True), Row("rain", "rain", 0.5, auxiliary=False)
    expected = {"stage": [True, False, False, False], "all": [True, True, True, False]}
    for rows, wanted in expected.items():
        assert [carries(row, frequency(rows=rows)) for row in (stage, guard, projected, shy)] == wanted


# ------------------------------------------------------------------------------------- what sees what, what is logged


def test_reports_see_the_restoration_loss_and_the_weighting_what_it_is_told() -> None:
    auxiliary = {"name": "gradient", "weight": 3.0}
    seen = {}
    for sees in ("restoration", "total"):
        strategy = {"weighting": "geometric", "weighting_sees": sees}
        learner = small(auxiliary, strategy=strategy, training={"steps": 1, "batch": 6})
        with torch.no_grad():
            expected = [float(learner.sample_losses(learner.restore(b), b).mean()) for b in batches(learner)]
        watcher = tiny.Silent()
        train(learner, watcher)
        assert watcher.results[0].losses.tolist() == pytest.approx(expected, rel=1e-5)
        seen[sees] = watcher.results[0].weights
    assert not torch.allclose(seen["restoration"], seen["total"])


def batches(learner: Learner) -> list[Any]:
    return [learner.batch(task, torch.arange(2)) for task in TASKS]


def test_the_second_look_of_famo_sees_the_same_sum_as_the_first() -> None:
    learner = small({"name": "gradient", "weight": 3.0}, strategy={"weighting": "famo", "weighting_sees": "total"})
    one, drawn, context = stepper(learner)
    one.update(drawn, context)
    assert context.losses_again is not None
    output = one._joint_losses(learner.forward(drawn.degraded, drawn.task_numbers), drawn)
    expected = torch.stack([row.total.mean() for row in output]).double()
    torch.testing.assert_close(context.losses_again(), expected.detach(), rtol=1e-5, atol=0)


def test_the_ratio_of_pulls_is_logged_with_the_conflict_and_large_ones_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    learner = small([{"name": "gradient", "weight": 0.5}, {"name": "frequency", "weight": 50.0}])
    one, drawn, context = stepper(learner)
    result = one.update(drawn, context, look=True)
    parameters = list(learner.model.parameters())
    for row, batch in zip(drawn.rows, drawn.batches, strict=True):
        output, norms = learner.restore(batch), []
        term = one.auxiliaries.term("gradient", output, row, batch, (0, 2))
        for losses in (learner.sample_losses(output, batch), term):
            pulled = torch.autograd.grad(losses.mean(), parameters, retain_graph=True)
            norms.append(float(torch.cat([part.flatten() for part in pulled]).norm()))
        assert result.aux_ratio[f"aux_ratio.gradient/{row.name}"] == pytest.approx(norms[1] / norms[0], rel=1e-3)
    assert len(result.aux_ratio) == 6
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 1 and warned[0].startswith("auxiliary frequency: at step 0")


# --------------------------------------------------------------------------------------------------- names and mistakes


def test_the_list_of_training_comes_first_and_a_second_of_a_name_gets_a_number() -> None:
    strategies = {
        "one": {"auxiliary": "l1"},
        "two": {"auxiliary": [f"{OWN}:Bank", {"name": "l1", "weight": 2}]},
        "none": {},
    }
    made = tiny.experiment(strategies, training={"auxiliary": [{"name": "l1", "weight": 0.5}]})
    labels = {name: [one.label for one in strategy.auxiliary] for name, strategy in made.strategies.items()}
    assert labels == {"one": ["l1", "l1_2"], "two": ["l1", "bank", "l1_2"], "none": ["l1"]}
    assert "auxiliary" not in made.resolved()["training"]
    assert made.strategies["two"].names()["auxiliary"] == "l1+bank+l1_2"


@pytest.mark.error("objective: a mistake in an auxiliary objective")
@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        ("frequenci", r"strategies\.one\.auxiliary: unknown objective 'frequenci': did you mean frequency"),
        ([{"name": "l1", "wight": 1}], r"strategies\.one\.auxiliary\.0\.wight: unknown key; did you mean weight"),
        ({"name": "l1", "from": 0.5, "until": 0.25}, r"until 0\.25 is not after from 0\.5"),
        ({"name": "l1", "weight": -1}, r"auxiliary\.weight: .*greater than or equal to 0"),
        (f"{OWN}:Greedy", r"Greedy needs latents, which the engine does not know; did you mean latent"),
        ({"name": f"{OWN}:Small"}, r"own\.py:Small is not of the family objective"),
    ],
)
def test_mistakes_are_named(auxiliary: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.experiment({"one": {"auxiliary": auxiliary}})
    with pytest.raises(ConfigError, match=r"weighting_sees: expected restoration or total, found 'both'"):
        tiny.experiment({"one": {"weighting_sees": "both"}})


@pytest.mark.error("objective: needs that the tasks or the network cannot meet")
def test_what_the_tasks_or_the_network_cannot_give_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"auxiliary\.coupled: its head has BatchNorm2d, which couples"):
        small(f"{OWN}:Coupled")
    alone = small(f"{OWN}:Others", tasks={"rain": None, "haze": None})
    with pytest.raises(ConfigError, match=r"auxiliary others needs other tasks, but the run has noise alone"):
        train(alone, tiny.Silent())
    paired = small(f"{OWN}:Others")
    paired.task_of["rain"].degradation = None
    with pytest.raises(ConfigError, match="needs every task's degradation: task rain"):
        train(paired, tiny.Silent())
    assert classes.Others.needs == {"output", "others"}
