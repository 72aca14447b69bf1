"""Unlearning methods: bit-equal parts, bounds, and formulas computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.store import checkpoint
from cmtl_ir.strategies.unlearning._dampen import dampened
from cmtl_ir.strategies.unlearning._pgd import adversarial, lengths, start, within
from cmtl_ir.strategies.unlearning._rows import own_input, towards
from cmtl_ir.strategies.unlearning.influence import solve
from cmtl_ir.strategies.unlearning.scrub import Scrub, away
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.output import Output
from cmtl_ir.strategy.parts import Retention
from cmtl_ir.strategy.registry import load, names
from cmtl_ir.strategy.unlearning import Ensemble, Rerun, Unlearner
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import StepResult
from cmtl_ir.unlearning.origin import Origin
from cmtl_ir.unlearning.planning import plan
from cmtl_ir.unlearning.probe import identity_losses, probe_psnr
from tests import tiny

from . import cases


def retention_of(learner: Learner) -> Retention:
    part = learner.strategy.retention
    assert part is not None
    return part


def test_every_method_is_tried_here_or_is_exact() -> None:
    exact = {name for name in names("unlearning") if issubclass(load("unlearning", name), Rerun | Ensemble)}
    assert set(cases.FEW) | exact == set(names("unlearning")) and exact == {"retrain", "lineage", "sisa"}


@pytest.mark.parametrize("name", sorted(cases.FEW))
def test_a_method_changes_weights_and_leaves_them_finite(joint: Origin, name: str) -> None:
    learner = cases.forgotten(cases.job(joint, name, **cases.FEW[name]))
    after = tiny.weights(learner)
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    assert not tiny.same(after, cases.original(joint))


@pytest.mark.parametrize("name", ["instance_wise", "salun", "scrub", "variational"])
def test_a_method_that_is_killed_goes_on_to_the_same_bits(joint: Origin, tmp_path: Path, name: str) -> None:
    class Killed(Exception):
        pass

    class Saving(tiny.Silent):
        def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
            if learner.step == 2:
                checkpoint.save(tmp_path, learner.tree(), step=2)
                raise Killed

    fields = cases.FEW[name] | ({"stop": "steps"} if name == "instance_wise" else {})
    asked = cases.job(joint, name, **fields)
    with pytest.raises(Killed):
        cases.forgotten(asked, Saving())
    again, saved = cases.learner_of(plan(asked)), checkpoint.load_latest(tmp_path)
    assert saved is not None
    again.load_tree(saved.tree)
    train(again, tiny.Silent())
    assert again.step > 2 and tiny.same(tiny.weights(again), tiny.weights(cases.forgotten(asked)))


# -------------------------------------------------------------------------------------------------------- ascent


@pytest.fixture(scope="module")
def able() -> Learner:
    """A learner that restores haze better than the identity does."""
    learner = tiny.learner(
        {"curriculum": {"name": "single", "task": "haze"}}, training={"steps": 120, "batch": 6}, conflict={"every": 0}
    )
    train(learner, tiny.Silent())
    return learner


def ratio(learner: Learner) -> float:
    """Loss on haze over the identity's, on fixed draws."""
    batch = learner.batch("haze", torch.arange(1000, 1024))
    with torch.no_grad():
        output = learner.restore(batch)
    losses, untouched = learner.sample_losses(output, batch), identity_losses(learner, output, batch)
    return float(losses.mean() / untouched.mean())


class Ratios(tiny.Silent):
    """Watches the forget loss rise."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = list[float]()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        if learner.step % 2 == 0:
            self.seen.append(ratio(learner))


def ascended(able: Learner, joint: Origin, bound: str, steps: int = 150) -> tuple[float, list[float]]:
    learner = cases.learner_of(plan(cases.job(joint, "ascent", steps=steps, lr=1e-3, bound=bound)))
    learner.model.load_state_dict(able.model.state_dict())
    watcher = Ratios()
    train(learner, watcher)
    return ratio(learner), watcher.seen


def test_the_two_sided_bound_stops_at_the_identity(able: Learner, joint: Origin) -> None:
    assert ratio(able) < 0.8  # otherwise there is nothing to forget
    end, way = ascended(able, joint, "two_sided")
    assert abs(end - 1) <= 0.05 and max(way) <= 1.3


@pytest.mark.parametrize("bound", ["none", "hinge"])
def test_no_bound_and_a_hinge_let_the_loss_rise_far_beyond_the_identity(
    able: Learner, joint: Origin, bound: str
) -> None:
    end, _ = ascended(able, joint, bound, steps=60)
    assert end > 1.3  # momentum carries it over a hinge, behind which nothing pulls it back


def test_a_stop_at_the_target_ends_the_stage_as_soon_as_the_probe_says_so(able: Learner, joint: Origin) -> None:
    learner = cases.learner_of(plan(cases.job(joint, "ascent", steps=150, lr=1e-3, stop="target")))
    learner.model.load_state_dict(able.model.state_dict())
    begun = probe_psnr(learner, ["haze"])
    train(learner, tiny.Silent())
    target = retention_of(learner).state["target"]
    assert target == probe_psnr(learner, ["haze"], nn.Identity()) < begun  # there is no retrained model
    assert 0 < learner.step < 150 and learner.step % 10 == 0 and probe_psnr(learner, ["haze"]) <= target


def test_ascent_of_0_steps_is_the_identity(joint: Origin) -> None:
    assert tiny.same(tiny.weights(cases.forgotten(cases.job(joint, "ascent", steps=0))), cases.original(joint))


# --------------------------------------------------------------------------------------------------------- salun


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_salun_leaves_masked_out_weights_bit_equal_under_adamw(joint: Origin, weight_decay: float) -> None:
    base = {"name": "identity_target", "steps": 10, "weight_decay": weight_decay}
    learner = cases.forgotten(cases.job(joint, "salun", base=base, share=0.3, batches=2))
    assert isinstance(learner.optimizer, torch.optim.AdamW)
    mask, start = retention_of(learner).state["mask"], 0
    moved = list[Tensor]()
    for name, parameter in learner.model.named_parameters():
        own = mask[start : start + parameter.numel()].view(parameter.shape)
        change = parameter.detach() != cases.original(joint)[name]
        assert not bool((change & ~own).any()), f"{name} moved where it must not"
        moved.append(change.sum())
        start += parameter.numel()
    assert int(mask.sum()) == round(0.3 * len(mask)) and int(sum(moved)) > 0.9 * int(mask.sum())


def test_salun_of_all_weights_is_its_base(joint: Origin) -> None:
    base = {"name": "finetune", "steps": 3}
    masked = cases.forgotten(cases.job(joint, "salun", base=base, share=1.0, batches=1))
    assert tiny.same(tiny.weights(masked), tiny.weights(cases.forgotten(cases.job(joint, "finetune", steps=3))))


@pytest.mark.parametrize("base", ["retrain", "sisa", "salun"])
def test_salun_refuses_a_base_that_does_not_move_the_weights(base: str) -> None:
    with pytest.raises(Exception, match="cannot be masked"):
        cases.method("salun", base=base)


# ------------------------------------------------------------------------------------------------- instance_wise


@pytest.fixture
def haze(joint: Origin) -> tuple[Learner, Batch, nn.Module]:
    """A learner that is about to forget, hazy samples, the original model."""
    learner = cases.learner_of(plan(cases.job(joint, "instance_wise", **cases.FEW["instance_wise"])))
    return learner, learner.batch("haze", torch.arange(4)), learner.model.eval()


RADIUS = 0.072 * (3 * 16 * 16) ** 0.5


def test_adversarial_samples_stay_in_the_ball_and_among_images(haze: tuple[Learner, Batch, nn.Module]) -> None:
    learner, batch, network = haze
    offset = adversarial(learner, batch, network, 0.072, 10) - batch.degraded
    assert float(lengths(offset).max()) <= RADIUS * (1 + 1e-5) and float(lengths(offset).min()) > 0.1 * RADIUS
    made, x = batch.degraded + offset, batch.degraded
    assert bool((made >= x.clamp(max=0) - 1e-6).all()) and bool((made <= x.clamp(min=1) + 1e-6).all())


def test_adversarial_samples_move_the_answer_more_than_their_start_does(
    haze: tuple[Learner, Batch, nn.Module],
) -> None:
    learner, batch, network = haze

    @torch.no_grad()
    def moved(inputs: Tensor) -> float:
        return float((network(inputs, None) - network(batch.degraded, None)).abs().mean())

    begun = batch.degraded + within(start(learner, batch, RADIUS), batch.degraded, RADIUS)
    assert moved(adversarial(learner, batch, network, 0.072, 10)) > 1.2 * moved(begun)


def test_the_search_starts_off_the_origin_where_the_gradient_is_0(haze: tuple[Learner, Batch, nn.Module]) -> None:
    learner, batch, network = haze
    assert torch.allclose(lengths(start(learner, batch, RADIUS)), torch.tensor(RADIUS / 2))
    offset = torch.zeros_like(batch.degraded, requires_grad=True)
    answer = network(batch.degraded, None).detach()
    loss = (network(batch.degraded + offset, None) - answer).abs().mean()
    assert float(torch.autograd.grad(loss, offset)[0].abs().max()) == 0.0


@pytest.mark.parametrize("name", ["instance_wise", "variational"])
def test_the_pull_back_is_0_at_the_first_step_and_not_after_it(joint: Origin, name: str) -> None:
    learner = cases.learner_of(plan(cases.job(joint, name, **cases.FEW[name])))
    part = retention_of(learner)
    stage = part.stages()[0] if isinstance(part, Unlearner) else None
    assert stage is not None
    part.begin_stage(stage, learner)

    def penalty() -> float:
        found = part.penalty(learner.model)
        assert found is not None
        return float(found.detach())

    assert penalty() == 0.0
    with torch.no_grad():
        for parameter in learner.trained_parameters():
            parameter.add_(1e-2)
    assert penalty() > 0.0


def test_with_all_coefficients_0_the_weights_keep_their_bits(joint: Origin) -> None:
    none: dict[str, Any] = {
        "forget_weight": 0,
        "adversarial_weight": 0,
        "retain_weight": 0,
        "penalty_weight": 0,
        "weight_decay": 0,
    }
    asked = cases.job(joint, "instance_wise", **cases.FEW["instance_wise"], **none, stop="steps")
    learner = cases.forgotten(asked)
    assert learner.step == 4 and tiny.same(tiny.weights(learner), cases.original(joint))


def test_instance_wise_without_retain_data_reads_none(joint: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    read, whole = set[str](), Learner.batch

    def noted(self: Learner, task: str, *rest: Any, **named: Any) -> Batch:
        read.add(task)
        return whole(self, task, *rest, **named)

    monkeypatch.setattr(Learner, "batch", noted)
    fields: dict[str, Any] = {"retain": False, "stop": "steps"}
    cases.forgotten(cases.job(joint, "instance_wise", use_retain=False, **cases.FEW["instance_wise"], **fields))
    assert read == {"haze"}


# ------------------------------------------------------------------------------------------------ worked by hand


def test_dampening_shrinks_exactly_the_weights_that_matter_more_to_what_is_forgotten() -> None:
    weights, forget = torch.tensor([4.0, 4.0, 4.0, 4.0]), torch.tensor([8.0, 2.0, 1.0, 4.0])
    retain = torch.tensor([1.0, 1.0, 1.0, 3.0])
    # F_f / F_r = 8, 2, 1, 1.33 against alpha 1.5; the factor is min(1, F_r / F_f), with lambda 4 min(1, 4 F_r / F_f)
    assert dampened(weights, forget, retain, 1.5, 1.0).tolist() == [0.5, 2.0, 4.0, 4.0]
    assert dampened(weights, forget, retain, 1.5, 4.0).tolist() == [2.0, 4.0, 4.0, 4.0]


def test_ssd_of_a_huge_alpha_changes_nothing(joint: Origin) -> None:
    learner = cases.forgotten(cases.job(joint, "ssd", samples=4, alpha=1e12))
    assert tiny.same(tiny.weights(learner), cases.original(joint))


def test_the_newton_direction_solves_the_damped_system() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, vector = (torch.randn(*shape, generator=generator) for shape in ((7, 30), (30,)))
    fisher, delta = rows.T @ rows / 7, 0.1 * float(rows.square().sum(1).mean())
    dense = torch.linalg.solve((fisher + delta * torch.eye(30)).double(), vector.double())
    assert torch.allclose(solve(rows, vector, 0.1).double(), dense, rtol=1e-4, atol=1e-6)


def test_scrub_alternates_and_lowers_its_rate_after_the_named_epochs() -> None:
    stages = Scrub().stages()
    assert [stage.name for stage in stages[:7]] == ["max1", "min1", "max2", "min2", "max3", "min3", "min4"]
    rates = {stage.name: stage.rate for stage in stages}
    assert [round(rates[f"min{n}"], 6) for n in (5, 6, 8, 9, 10)] == [1.0, 0.1, 0.1, 0.01, 0.001]
    assert sum(stage.steps for stage in stages) == 260 and len(stages) == 13


@pytest.mark.parametrize("outputs", [1, 3])
def test_scrub_s_far_point_is_the_input_for_every_output_of_a_backbone(
    haze: tuple[Learner, Batch, nn.Module], outputs: int
) -> None:
    learner, batch, _ = haze
    answers = torch.zeros_like(batch.clean)
    loss = away(towards(learner, lambda batch: answers))
    as_they_came = Output((own_input(batch),) * outputs, own_input(batch))
    assert float(loss(as_they_came, batch).max()) == 0.0
    assert torch.allclose(
        loss(as_they_came.filled(2 * batch.degraded), batch), outputs * batch.degraded.abs().mean((1, 2, 3))
    )


def test_fisher_noise_is_the_same_again_and_none_without_alpha(joint: Origin) -> None:
    one, other = (cases.forgotten(cases.job(joint, "fisher", samples=4, alpha=1e-6)) for _ in range(2))
    assert tiny.same(tiny.weights(one), tiny.weights(other))
    none = cases.forgotten(cases.job(joint, "fisher", samples=4, alpha=0.0))
    assert tiny.same(tiny.weights(none), cases.original(joint))


def test_identity_target_pulls_hazy_images_back_to_themselves(able: Learner, joint: Origin) -> None:
    learner = cases.learner_of(plan(cases.job(joint, "identity_target", steps=80, lr=2e-3)))
    learner.model.load_state_dict(able.model.state_dict())
    before = ratio(learner)
    train(learner, tiny.Silent())
    assert before < 0.8 and abs(ratio(learner) - 1) < abs(before - 1) / 2
