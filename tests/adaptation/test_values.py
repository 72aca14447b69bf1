"""Values of the adapters that were computed by hand or by another route."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from cmtl_ir.base.symmetries import SYMMETRIES, mean_of_views, turned, turned_back
from cmtl_ir.strategies.adaptation._moving import moved_parameters
from cmtl_ir.strategies.adaptation._views import ensemble, spread
from cmtl_ir.strategies.adaptation.norm_sam import change, sharpened
from cmtl_ir.strategies.adaptation.prior_guided import Blur, Pointwise, PriorGuided, flow, geometric, towards
from cmtl_ir.strategies.adaptation.redegrade import kept_coordinates
from cmtl_ir.strategies.shared.stein import noise_levels, risk
from cmtl_ir.strategy.degradation import Degradation
from tests import tiny
from tests.adaptation.cases import Function, Mixing, adapter, context, image, subject


def test_the_eight_symmetries_are_different_and_are_undone() -> None:
    x = image()
    views = [turned(x, number) for number in range(SYMMETRIES)]
    assert all(torch.equal(turned_back(view, number), x) for number, view in enumerate(views))
    square = image(6, 6)
    assert len({turned(square, number).numpy().tobytes() for number in range(SYMMETRIES)}) == SYMMETRIES


def test_the_mean_and_the_consistency_of_a_network_that_halves_the_right() -> None:
    """x (0, 1), f multiplies by (1, .5): views with and without a flip (0, .5) and (0, 1), mean (0, .75), 1/32."""
    halves = Function(lambda x, w: x * torch.linspace(1, 0.5, x.shape[3]) * w)
    x = torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2).contiguous()
    upright = [turned_back(halves(turned(x, number)), number) for number in (0, 4)]
    assert torch.allclose(torch.stack(upright).mean(0)[0, 0, 0], torch.tensor([0.0, 0.75]))
    assert (torch.stack(upright) - torch.tensor([0.0, 0.75])).square().mean().item() == pytest.approx(0.03125)
    # of all eight, two are as above, two are flipped by the rotation by 180 degrees, four see a column: all times 1
    expected = torch.tensor([0.0, (0.5 + 1 + 1 + 0.5 + 4 * 1) / 8])
    mean = ensemble(halves, x, context(halves))
    assert torch.allclose(mean[0, 0, 0], expected)
    found = spread(halves, x, mean, context(halves), backward=False)
    values = [0.5, 0.5, *[1.0] * 6]
    assert found == pytest.approx(sum((value - expected[1].item()) ** 2 for value in values) / 8 / 2, rel=1e-6)


def test_self_ensemble_is_the_mean_of_the_answers_to_turned_images() -> None:
    model, x = Mixing(), image()
    around = context(model)
    answer = adapter("self_ensemble").adapt(model, x, around)
    byhand = torch.stack([turned_back(model(turned(x, j), torch.zeros(1)).clamp(0, 1), j) for j in range(8)]).mean(0)
    assert torch.allclose(answer, byhand, atol=1e-6) and not torch.allclose(answer, around.restore(model, x), atol=1e-3)


def test_a_network_that_is_equivariant_does_not_move_for_consistency() -> None:
    pointwise = Function(lambda x, w: x.square() * w)
    around = context(pointwise)
    answer = adapter("consistency", rate=0.1).adapt(pointwise, image(), around)
    assert around.steps == 0 and torch.equal(answer, around.restore(pointwise, image()))


def test_consistency_falls_towards_the_mean_answer_before_the_first_step() -> None:
    model, x = Mixing(), image()
    around, before = context(model), copy.deepcopy(model)
    initial = ensemble(model, x, around)
    adapter("consistency", rate=1e-3, steps=5).adapt(model, x, around)
    after = spread(model, x, initial, around, False)
    assert around.steps == 5 and after < spread(before, x, initial, around, False)


def test_the_gradient_of_the_consistency_is_that_of_finite_differences() -> None:
    model, x = Function(lambda x, w: x * torch.linspace(1, 0.5, x.shape[3]) * w), image(4, 6)
    around, target = context(model), ensemble(model, x, context(model))
    spread(model, x, target, around, backward=True)
    values = []
    for step in (1e-2, -1e-2):
        model.w.data.fill_(1 + step)
        values.append(spread(model, x, target, around, backward=False))
    assert model.w.grad is not None
    assert model.w.grad.item() == pytest.approx((values[0] - values[1]) / 2e-2, rel=1e-3)


# ----------------------------------------------------------------------------------------------------- redegrade


class Unchanged(Degradation):
    """Leaves images as they are."""

    def parameters(self, keys: Tensor) -> dict[str, Tensor]:
        return {}

    def degrade(
        self, clean: Tensor, parameters: dict[str, Tensor], keys: Tensor, origin: Tensor, size: Tensor
    ) -> Tensor:
        return clean


def test_redegrade_keeps_an_idempotent_equivariant_network_under_an_identity() -> None:
    model = Function(lambda x, w: x * w)
    around = context(model)
    around.subject.origin.__dict__["degradations"] = {"noise": Unchanged()}
    answer = adapter("redegrade", anchor=0.0, fisher=0.0).adapt(model, image(), around)
    assert around.steps == 0 and torch.equal(answer, image())


def test_redegrade_sets_half_of_the_coordinates_back_after_each_step() -> None:
    model, x = Mixing(), image(32, 32)
    around = context(model, tiny.experiment(tasks={"rain": None, "haze": None}))
    part = adapter("redegrade", rate=1e-3, steps=20, samples=2)
    part.begin(model, around)
    start = {name: one.detach().clone() for name, one in model.named_parameters()}
    part.adapt(model, x, around)
    kept = dict(zip(start, part.state["kept"], strict=True))
    assert around.steps == 20 and sum(int(one.sum()) for one in kept.values()) == 45  # half of 84 + 6 numbers
    for name, one in model.named_parameters():
        assert torch.equal(one[kept[name]], start[name][kept[name]]), "set back bit by bit"
    assert any(not torch.equal(one, start[name]) for name, one in model.named_parameters())


def test_the_coordinates_with_the_largest_information_are_set_back() -> None:
    (mask,) = kept_coordinates([torch.tensor([4.0, 1.0, 3.0, 2.0])], 0.5)
    assert mask.tolist() == [True, False, True, False]
    first, second = kept_coordinates([torch.tensor([4.0, 1.0]), torch.tensor([[3.0, 2.0]])], 0.5)  # ranked together
    assert first.tolist() == [True, False] and second.tolist() == [[True, False]]


# ---------------------------------------------------------------------------------- norm_sam, teacher_restore


def test_norm_sam_looks_rho_ahead_along_the_gradient() -> None:
    (found,) = sharpened([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 4.0])], 0.05)
    assert found.tolist() == pytest.approx([1.03, 2.04])
    assert change([torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 4.0])]) == pytest.approx(0.75)


def test_norm_sam_moves_normalisation_layers_alone_and_biases_where_there_are_none() -> None:
    model, around = Mixing(), context(Mixing())
    part = adapter("norm_sam", samples=2, drop=1e9, rate=1e-3)
    part.begin(model, around)
    before = copy.deepcopy(model)
    part.adapt(model, image(), around)
    assert around.steps == 1 and torch.equal(model.conv.weight, before.conv.weight)
    assert not torch.equal(model.norm.weight, before.norm.weight)
    plain = torch.nn.Conv2d(3, 3, 3)
    assert [name for name, _ in moved_parameters(plain, "norm")] == []
    assert [name for name, _ in adapter("norm_sam").chosen(plain, around)] == ["bias"]
    assert any("its biases move instead" in note for note in around.notes)


def test_norm_sam_drops_images_that_are_too_inconsistent_and_sets_far_weights_back() -> None:
    model, around = Mixing(), context(Mixing())
    start = copy.deepcopy(model.state_dict())
    dropped = adapter("norm_sam", samples=2, drop=1e-6, rate=1e-3)
    dropped.begin(model, around)
    dropped.adapt(model, image(), around)
    assert around.steps == 0 and tiny.same(model.state_dict(), start)
    far = adapter("norm_sam", samples=2, drop=1e9, rate=0.5)
    far.begin(model, around)
    far.adapt(model, image(), around)
    assert around.steps == 1 and tiny.same(model.state_dict(), start) and any("set back" in one for one in around.notes)


@pytest.mark.parametrize(("steps", "left"), [(10, 0.904), (100, 0.366)])
def test_teacher_restore_leaves_so_many_coordinates_after_so_many_steps(steps: int, left: float) -> None:
    assert (1 - adapter("teacher_restore").p) ** steps == pytest.approx(left, abs=5e-4)
    model = Function(lambda x, w: x * w.mean(), count=4000)
    around = context(model)
    part = adapter("teacher_restore", rate=1e-4)
    part.begin(model, around)
    touched = torch.zeros(4000, dtype=torch.bool)
    for step in range(steps):
        with torch.no_grad():
            model.w.fill_(2.0)
        part._after(model, step, around)
        touched |= model.w.detach() == 1.0
    assert 1 - touched.float().mean().item() == pytest.approx(left, abs=4 * math.sqrt(left * (1 - left) / 4000))


def test_teacher_restore_averages_the_teacher_and_with_p_1_answers_as_none() -> None:
    model, around, x = Mixing(), context(Mixing()), image()
    plain, start = around.restore(model, x), copy.deepcopy(model.state_dict())
    part = adapter("teacher_restore", rate=1e-3, p=1.0, alpha=0.75)
    part.begin(model, around)
    assert torch.equal(part.adapt(model, x, around), plain) and tiny.same(model.state_dict(), start)
    moved = (part._teacher.conv.weight - start["conv.weight"]).abs()
    assert around.steps == 1  # Adam's first step has length rate, of which the teacher goes 1 - alpha
    assert torch.allclose(moved, torch.full_like(moved, 2.5e-4), atol=1e-6)


# ---------------------------------------------------------------------------------------------------- sure, chain


@pytest.mark.parametrize(("a", "expected"), [(0.5, 0.085835), (0.9, 0.0114334), (1.0, 0.01), (0.970874352, None)])
def test_sure_of_a_linear_function_is_its_expected_error(a: float, expected: float | None) -> None:
    """f(y) = a y on a uniform grid over [-1, 1], noise of sigma .1 whose energy and correlation are the expected."""
    clean, sigma = torch.linspace(-1, 1, 100_000, dtype=torch.float64), 0.1
    energy = clean.square().mean()
    noisy = clean * (1 + sigma**2 / energy).sqrt()  # E y^2 = E x^2 + sigma^2, all that R of a linear f reads
    probe = torch.where(torch.arange(100_000) % 2 == 0, 1.0, -1.0).double()
    noisy, probe = noisy.view(1, 1, 1, -1), probe.view(1, 1, 1, -1)
    inside = torch.ones_like(noisy).bool()
    given = torch.tensor([sigma], dtype=torch.float64), torch.tensor([1e-3], dtype=torch.float64)

    def at(a: float) -> float:
        return risk(noisy, a * noisy, a * (noisy + 1e-3 * probe), probe, *given, inside).item()

    assert at(a) == pytest.approx((a - 1) ** 2 * energy.item() + a**2 * sigma**2, rel=1e-9)
    if expected is None:  # the minimum
        assert at(a) < min(at(a - 1e-3), at(a + 1e-3))
    else:
        assert at(a) == pytest.approx(expected, rel=1e-4)


def test_sure_estimates_the_noise_and_leaves_clipped_images_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    noisy = 0.5 + 25 / 255 * torch.randn(1, 3, 64, 64, generator=generator)
    assert noise_levels(noisy).item() == pytest.approx(25 / 255, rel=0.05)
    model, x = Mixing(), torch.cat([torch.zeros(1, 3, 8, 16), torch.ones(1, 3, 8, 16)], 2)
    around = context(model)
    assert torch.equal(adapter("sure", sigma=15.0).adapt(model, x, around), around.restore(model, x))
    assert around.steps == 0 and any("all clipped" in note for note in around.notes)


def test_sure_shrinks_what_it_should() -> None:
    """f(y) = w y: w moves from 1 to where the expected error is least, E x^2 / (E x^2 + sigma^2)."""
    generator = torch.Generator().manual_seed(1)
    clean = image(64, 64)
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=generator)
    model = Function(lambda x, w: x * w)
    adapter("sure", sigma=51.0, mask=False, rate=1e-3, steps=300).adapt(model, noisy, context(model))
    energy = clean.square().mean().item()
    assert model.w.item() == pytest.approx(energy / (energy + 0.04), abs=0.01)


def test_a_fixed_chain_applies_the_network_again() -> None:
    model, x = Mixing(), image()
    around = context(model)
    once = around.restore(model, x)
    assert torch.equal(adapter("chain", decide="fixed", rounds=1).adapt(model, x, around), once)
    assert torch.equal(adapter("chain", decide="fixed", rounds=2).adapt(model, x, around), around.restore(model, once))


def test_a_chain_restores_the_task_that_is_found_until_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = Mixing(), image()
    around = context(model)
    found = [{"noise": 0.1, "rain": 0.9, "haze": 0.0}, {"noise": 0.8, "rain": 0.1, "haze": 0.1}, {"noise": 0.4}, {}]
    seen = iter(found)
    monkeypatch.setattr(around, "classify", lambda network, degraded: next(seen))
    brighter = around.restore(model, x, "rain")
    assert not torch.equal(brighter, around.restore(model, x, "noise"))
    answer = adapter("chain").adapt(model, x, around)
    assert torch.equal(answer, around.restore(model, brighter, "noise")) and list(seen) == [{}]
    monkeypatch.setattr(around, "classify", lambda network, degraded: found[0])
    assert torch.equal(adapter("chain", clean="rain").adapt(model, x, around), x)


@pytest.mark.parametrize(("guide", "path"), [(0.0, [2.0, 1.2, 0.9, 0.72]), (0.25, [2.0, 1.5, 1.25, 1.0])])
def test_prior_guided_follows_the_flow_of_a_known_prior(guide: float, path: list[float]) -> None:
    """Prior N(0, 1), D = x / (1 + sigma^2), sigma 2, 1, .5, 0 from x = 2, with A the identity and y = 1."""
    levels, one = [2.0, 1.0, 0.5, 0.0], torch.ones(1)
    for stop in range(1, 5):
        found = flow(
            torch.tensor([2.0]), levels[:stop], lambda x, sigma: x / (1 + sigma**2),
            lambda clean: towards(clean, lambda x: x, one, guide),
        )  # fmt: skip
        assert found.item() == pytest.approx(path[stop - 1], rel=1e-6)


def test_prior_guided_starts_at_the_identity_and_fits_the_degradation(monkeypatch: pytest.MonkeyPatch) -> None:
    x, around = image(), context(Mixing())
    assert torch.allclose(Pointwise()(x), x) and torch.allclose(Blur()(x), x, atol=1e-6)
    assert geometric(1.0, 0.01, 3) == pytest.approx([1.0, 0.1, 0.01])
    monkeypatch.setattr(around, "finished", lambda run: Function(lambda x, w: x * 0 + image()))  # knows the truth
    dark = 0.5 * x
    answer = PriorGuided(prior="p", guide=0.01, fits=20).adapt(Mixing(), dark, around)
    free = PriorGuided(prior="p", guide=0.01, fits=0).adapt(Mixing(), dark, around)
    assert (answer - x).abs().mean() < 0.1 * (free - x).abs().mean() and any(
        "1 parameters" in one for one in around.notes
    )
    none = PriorGuided(prior="p", levels=0).adapt(Mixing().eval(), dark, around)
    assert torch.equal(none, around.restore(Mixing().eval(), dark))


def test_a_network_that_is_told_the_task_is_known() -> None:
    assert subject(Mixing()).reads_number() and not subject(Function(lambda x, w: x * w)).reads_number()


def test_mean_of_views_of_the_identity_is_the_image() -> None:
    assert torch.allclose(mean_of_views(lambda view: view, image()), image(), atol=1e-7)
