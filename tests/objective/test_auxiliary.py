"""The contract of auxiliary objectives, for every shipped one and for ones of a user's own file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.backbones import build
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.reading import validate
from cmtl_ir.gradients.rows import RowGradients
from cmtl_ir.runs.identity import identity_of
from cmtl_ir.strategy import registry
from cmtl_ir.strategy.data import Row, Stage, StepContext
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import context_of, train
from cmtl_ir.training.samples import Drawn, draw
from cmtl_ir.training.step import Stepper
from tests import tiny
from tests.objective import own as classes

OWN = Path(__file__).with_name("own.py")

OF_FILE = ("Bank", "Latent", "Others")
CASES: dict[str, dict[str, Any]] = {name: {"name": name} for name in registry.names("objective")}
CASES["ms_ssim"] = {"name": "ms_ssim", "scales": 2}
CASES |= {name: {"name": f"{OWN}:{name}"} for name in OF_FILE}
CASES["twice"] = {"name": f"{OWN}:Bank", "size": 3}
TASKS = ("noise", "rain", "haze")
every_objective = pytest.mark.parametrize("case", CASES)


def small(auxiliary: Any = None, **overrides: Any) -> Learner:
    """A learner of the small network, with patches that two scales of SSIM fit into."""
    strategy = {} if auxiliary is None else {"auxiliary": auxiliary}
    strategy |= overrides.pop("strategy", {})
    backbone = {"backbone": {"name": f"{OWN}:Small"}}
    raw = {key: value for key, value in tiny.RAW.items() if key != "backbone"} | backbone
    data = {**raw["data"], "patch": 24}
    made = validate(tiny.merged({**raw, "data": data, "strategies": {"one": strategy}}, overrides), "small")
    device = torch.device("cpu")
    tasks = tiny.build_tasks(made.tasks, made.data, 0, device)
    return Learner(made, made.strategies["one"], tasks, 0, device)


def stepper(
    learner: Learner, engine: str = "stream", counts: tuple[int, ...] = (2, 2, 2)
) -> tuple[Stepper, Drawn, StepContext]:
    """A stepper in the first step of a stage of all tasks, and that step's samples."""
    rows = [Row(task, task, 1 / 3) for task in TASKS]
    if learner.stage is None:
        learner.start_stage(Stage("all", dict.fromkeys(TASKS, 1 / 3), 4))
        for part in learner.parts().values():
            part.enter_stage(learner.stage, learner)
    micro = 1 if engine == "micro" else None
    made = RowGradients(learner.model, len(rows), "grouped" if engine == "grouped" else "stream", micro)
    drawn = draw(learner, rows, list(counts))
    one = Stepper(learner, rows, made)
    return one, drawn, context_of(learner, learner.stage, drawn, one.auxiliaries)


def with_a_full_bank(learner: Learner) -> Learner:
    """One step, so that banks have keys."""
    one, drawn, context = stepper(learner)
    one.update(drawn, context)
    one.auxiliaries.after_step()
    learner.optimizer.zero_grad(set_to_none=True)
    return learner


def references(learner: Learner, one: Stepper, drawn: Drawn) -> tuple[Tensor, Tensor]:
    """g_k and w dA_k, [K, P] each, by autograd alone, after the stepper has prepared."""
    parameters = list(learner.model.parameters())
    base, added = [], []
    for row, batch in zip(drawn.rows, drawn.batches, strict=True):
        output, window = learner.restore(batch), (0, len(batch.ids))
        terms = [one.auxiliaries.term(label, output, row, batch, window) for label in one.auxiliaries.of_row(row)]
        for found, losses in ((base, learner.sample_losses(output, batch)), (added, torch.stack(terms).sum(0))):
            pulled = torch.autograd.grad(losses.mean(), parameters, retain_graph=True, allow_unused=True)
            pulled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, pulled, strict=True)]
            found.append(torch.cat([one.flatten() for one in pulled]))
    return torch.stack(base), torch.stack(added)


def in_order(one: Stepper, flat: Tensor) -> Tensor:
    """[K, P] of the engine's layout as autograd's order of the parameters."""
    assert one.engine is not None
    return torch.stack([torch.cat([view.flatten() for view in one.engine._views(row)]) for row in flat])


# -------------------------------------------------------------------------------------------- (a) and (c): gradients


@every_objective
@pytest.mark.parametrize("engine", ["stream", "grouped", "micro"])
def test_row_gradients_and_their_gramian_are_those_of_the_sum(case: str, engine: str) -> None:
    learner = with_a_full_bank(small([CASES[case], {"name": "gradient", "weight": 0.25}]))
    one, drawn, context = stepper(learner, engine)
    result = one.update(drawn, context, look=True)
    assert one.engine is not None and one.engine.fallback is None
    base, added = references(learner, one, drawn)
    assert float(added.norm(dim=1).min()) > 0
    gathered = torch.zeros(3, 6)
    gathered[[0, 0, 1, 1, 2, 2], range(6)] = 0.5  # halves of one sample
    rows = in_order(one, gathered @ one.engine.buffer[:6])
    torch.testing.assert_close(rows, base + added, rtol=2e-4, atol=2e-6)
    assert result.gramian is not None
    found = (gathered.double() @ result.gramian @ gathered.double().T).diagonal()
    torch.testing.assert_close(found, (base + added).double().square().sum(1), rtol=1e-3, atol=1e-9)


@every_objective
def test_the_gradient_of_the_sum_is_that_of_finite_differences(case: str) -> None:
    """Along the gradient, where the slope is its length, within what float32 and the kinks of L1 leave of it."""
    learner = with_a_full_bank(small({**CASES[case], "weight": 0.5}))
    one, drawn, context = stepper(learner)
    one.auxiliaries.prepare(drawn, context)
    base, added = references(learner, one, drawn)
    gradient = (base + added).mean(0)
    length = float(gradient.norm())
    parts = (gradient / length).split([p.numel() for p in learner.model.parameters()])
    direction = [part.view(p.shape) for part, p in zip(parts, learner.model.parameters(), strict=True)]

    @torch.no_grad()
    def loss(distance: float) -> float:
        torch._foreach_add_(list(learner.model.parameters()), direction, alpha=distance)
        found = one._joint_losses(learner.forward(drawn.degraded, drawn.task_numbers), drawn)
        torch._foreach_add_(list(learner.model.parameters()), direction, alpha=-distance)
        return float(torch.stack([row.total.double().mean() for row in found]).mean())

    step = 1e-3
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(length, rel=0.01)


# ------------------------------------------------------------------------------------- (b) and (e): samples, constants


@every_objective
def test_a_sample_s_loss_depends_on_no_other_sample_and_constants_hold_no_graph(case: str) -> None:
    learner = with_a_full_bank(small(CASES[case]))
    (objective,) = learner.strategy.auxiliary
    _, _, context = stepper(learner)

    def found(*rows: tuple[str, list[int]]) -> Tensor:
        batches = {task: learner.batch(task, torch.tensor(ids)) for task, ids in rows}
        with torch.no_grad():
            made = objective.prepare(batches, learner, context)
        for constants in made.values():
            held = [*constants.per_sample.values(), *constants.shared.values()]
            assert not any(tensor.requires_grad or tensor.grad_fn for tensor in held)
        first = rows[0][0]
        output = learner.restore(batches[first])
        return objective.losses(output, batches[first], made.get(first, Constants(first))).detach()

    plain = found(("rain", [4, 5, 6]))
    assert plain.shape == (3,)
    torch.testing.assert_close(found(("rain", [6, 4, 5])), plain[[2, 0, 1]], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found(("rain", [4, 5, 6]), ("haze", [1, 2])), plain, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found(("rain", [5])), plain[1:2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("engine", ["joint", "stream", "grouped", "micro"])
def test_all_ways_to_an_update_end_in_the_same_weights(engine: str) -> None:
    auxiliary = [CASES["Bank"], {"name": "frequency", "weight": 0.01}]
    ends = []
    for way in ("joint", engine):
        training = {"micro_batch": 1} if way == "micro" else {} if way == "joint" else {"engine": way}
        surgery = {} if way == "joint" else {"strategy": {"surgery": {"name": "cagrad", "c": 0.0}}}
        learner = small(auxiliary, training={"steps": 5, **training}, **surgery)
        train(learner, tiny.Silent())
        ends.append(tiny.weights(learner))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-5)


# ----------------------------------------------------------------------------------------------------- (d): resumption


class Stops(Exception):
    pass


class Stopping(tiny.Silent):
    def __init__(self, folder: Path, step: int) -> None:
        super().__init__()
        self.folder, self.step = folder, step

    def stepped(self, learner: Learner, result: Any, rate: float) -> None:
        if learner.step == self.step:
            from cmtl_ir.store import checkpoint

            checkpoint.save(self.folder, {"learner": learner.tree()}, step=learner.step)
            raise Stops


@every_objective
def test_resumed_between_two_steps_all_is_equal_to_the_last_bit(case: str, tmp_path: Path) -> None:
    from cmtl_ir.store import checkpoint

    auxiliary = [CASES[case], CASES[case]]
    whole, again = (small(auxiliary, training={"steps": 6}) for _ in range(2))
    train(whole, tiny.Silent())
    with pytest.raises(Stops):
        train(small(auxiliary, training={"steps": 6}), Stopping(tmp_path, 3))
    saved = checkpoint.load_latest(tmp_path)
    assert saved is not None
    again.load_tree(saved.tree["learner"])
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(again))
    for one, other in zip(whole.strategy.auxiliary, again.strategy.auxiliary, strict=True):
        assert str(one.state) == str(other.state)


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


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        ("frequenci", r"strategies\.one\.auxiliary: unknown objective 'frequenci': did you mean frequency"),
        ([{"name": "l1", "wight": 1}], r"strategies\.one\.auxiliary\.0\.wight: unknown key; did you mean weight"),
        ({"name": "l1", "from": 0.5, "until": 0.25}, r"until 0\.25 is not after from 0\.5"),
        ({"name": "l1", "weight": -1}, r"auxiliary\.weight: .*greater than or equal to 0"),
        (f"{OWN}:Greedy", r"Greedy needs latents, which the engine does not know; did you mean latent"),
        ({"name": f"{OWN}:Small"}, r"own\.py:Small is no objective"),
    ],
)
def test_mistakes_are_named(auxiliary: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.experiment({"one": {"auxiliary": auxiliary}})
    with pytest.raises(ConfigError, match=r"weighting_sees: expected restoration or total, found 'both'"):
        tiny.experiment({"one": {"weighting_sees": "both"}})


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
