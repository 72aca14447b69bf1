"""Gradients, samples and state of auxiliary objectives, both shipped and from a user's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cmtl_ir.store import checkpoint
from cmtl_ir.strategy.objective import Constants
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.samples import Samples
from cmtl_ir.training.step import Stepper
from tests import tiny
from tests.objective.cases import CASES, small, stepper, with_a_full_bank

every_objective = pytest.mark.parametrize("case", CASES)
OF_EACH_KIND = ("frequency", "curricular_cr", "teacher_latent", "Bank", "Others")
"""Without state; of another network's features; of a teacher; of the latent and a bank; of other tasks' images."""
ENGINES = [
    pytest.param(case, engine, marks=pytest.mark.release if engine != "grouped" and case not in OF_EACH_KIND else ())
    for engine in ("grouped", "stream", "micro")
    for case in CASES
]
"""One pass for every objective each time; row by row and in pieces for one of each kind, for all before a release."""


def references(learner: Learner, one: Stepper, drawn: Samples) -> tuple[Tensor, Tensor]:
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


@pytest.mark.parametrize(("case", "engine"), ENGINES)
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


class Saving(tiny.Silent):
    """Saves at one step, as the recorder does."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__()
        self.folder, self.step = folder, step

    def stepped(self, learner: Learner, result: Any, rate: float) -> None:
        if learner.step == self.step:
            checkpoint.save(self.folder, {"learner": learner.tree()}, step=learner.step)


@every_objective
def test_resumed_between_two_steps_all_is_equal_to_the_last_bit(case: str, tmp_path: Path) -> None:
    auxiliary = [CASES[case], CASES[case]]
    whole, again = (small(auxiliary, training={"steps": 6}) for _ in range(2))
    train(whole, Saving(tmp_path, 3))
    saved = checkpoint.load_latest(tmp_path)
    assert saved is not None and saved.step == 3
    again.load_tree(saved.tree["learner"])
    train(again, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(again))
    for one, other in zip(whole.strategy.auxiliary, again.strategy.auxiliary, strict=True):
        assert str(one.state) == str(other.state)
