"""The loop: what a step computes, whatever the strategy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cmtl_ir.strategy.data import Row
from cmtl_ir.training.composition import coefficients
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.samples import draw
from tests import tiny

ORTHOGONAL = """
import torch
from torch import Tensor, nn


class PerTask(nn.Module):
    '''A scale and a shift of its own for every task: gradients of different tasks are orthogonal.'''

    def __init__(self, *, tasks: int = 3) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(tasks, 3))
        self.shift = nn.Parameter(torch.zeros(tasks, 3))

    def forward(self, x: Tensor, task: Tensor | None = None) -> Tensor:
        return x * self.scale[task][:, :, None, None] + self.shift[task][:, :, None, None]
"""


def trained(strategy: dict | None = None, look_every: int = 0, **overrides) -> tuple[Learner, tiny.Silent]:
    learner, watcher = tiny.learner(strategy, **overrides), tiny.Silent(look_every)
    train(learner, watcher)
    return learner, watcher


def test_two_runs_of_one_configuration_are_equal_to_the_last_bit() -> None:
    assert tiny.same(tiny.weights(trained()[0]), tiny.weights(trained()[0]))


def test_another_seed_gives_other_weights() -> None:
    assert not tiny.same(tiny.weights(trained()[0]), tiny.weights(trained(seed=1)[0]))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    before = torch.random.get_rng_state()
    first, _ = trained({"surgery": "pcgrad"})
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    assert tiny.same(tiny.weights(first), tiny.weights(trained({"surgery": "pcgrad"})[0]))


def test_joint_training_is_the_bare_loop() -> None:
    ours, _ = trained(training={"steps": 4, "clip": None})
    bare = tiny.learner(training={"steps": 4, "clip": None})
    optimizer = torch.optim.AdamW(bare.model.parameters(), lr=4e-3, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for step in range(4):
        ids = torch.arange(2 * step, 2 * step + 2)
        batches = [bare.batch(task, ids) for task in bare.tasks]
        degraded, clean = (torch.cat([getattr(b, name) for b in batches]) for name in ("degraded", "clean"))
        optimizer.zero_grad()
        (bare.model(degraded) - clean).abs().mean().backward()
        optimizer.step()
        schedule.step()
    for name, value in bare.model.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], value, rtol=1e-4, atol=2e-6)


def test_pcgrad_on_orthogonal_gradients_is_joint_training(tmp_path: Path) -> None:
    file = tmp_path / "orthogonal.py"
    file.write_text(ORTHOGONAL)
    network = {"backbone": {"name": f"{file}:PerTask"}}
    results = []
    for strategy in ({}, {"surgery": "pcgrad"}):
        raw = {**tiny.RAW, **network, "strategies": {"one": strategy}}
        results.append(_train_raw(raw))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=0, atol=1e-7)


def _train_raw(raw: dict) -> dict[str, torch.Tensor]:
    from cmtl_ir.config.reading import validate
    from cmtl_ir.tasks.suite import build_tasks

    made, device = validate(raw, "orthogonal"), torch.device("cpu")
    learner = Learner(made, made.strategies["one"], build_tasks(made.tasks, made.data, 0, device), 0, device)
    train(learner, tiny.Silent())
    return tiny.weights(learner)


def test_the_row_gradients_of_a_logged_step_give_the_joint_update() -> None:
    plain, _ = trained(training={"steps": 3})
    logged, watcher = trained(look_every=1, training={"steps": 3})
    assert all(result.gramian is not None for result in watcher.results)
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(logged.model.state_dict()[name], value, rtol=1e-4, atol=2e-6)


def test_the_harm_of_a_step_is_the_change_of_the_next_batch_loss_to_first_order() -> None:
    _, watcher = trained(look_every=1, training={"steps": 2, "optimizer": {"lr": 1e-5}})
    again, _ = trained(training={"steps": 1, "optimizer": {"lr": 1e-5}}, look_every=1)
    second = watcher.results[1]
    assert watcher.results[0].displacement is None and second.displacement is not None
    drawn = draw(again, [Row(t, t, 1 / 3) for t in again.tasks], [2, 2, 2])
    start = tiny.learner(training={"steps": 2, "optimizer": {"lr": 1e-5}})
    now = [again.sample_losses(again.restore(b), b).mean() for b in drawn.batches]
    before = [start.sample_losses(start.restore(b), b).mean() for b in drawn.batches]
    change = torch.stack(now).double() - torch.stack(before).double()
    by_row = torch.tensor([second.displacement[i : i + 2].mean() for i in (0, 2, 4)])
    torch.testing.assert_close(by_row, change.detach(), rtol=0.1, atol=2e-7)


def test_the_nth_sample_is_the_same_under_every_strategy_and_number_of_tasks() -> None:
    ids = torch.tensor([0, 5, 17])
    joint = tiny.learner({}).batch("rain", ids)
    alone = tiny.learner({"curriculum": "sequential", "surgery": "pcgrad"}, tasks={"haze": None}).batch("rain", ids)
    assert torch.equal(joint.degraded, alone.degraded) and torch.equal(joint.clean, alone.clean)


def test_sequential_trains_one_task_a_stage() -> None:
    _, watcher = trained({"curriculum": "sequential"})
    assert watcher.ends == ["noise", "rain", "haze"]
    assert [result.rows for result in watcher.results[::4]] == [["noise"], ["rain"], ["haze"]]


@pytest.mark.parametrize("weighting", ["proportional", "equal"])
def test_coefficients_are_those_of_one_convention(weighting: str) -> None:
    learner = tiny.learner({"weighting": weighting})
    rows = [Row("noise", "noise", 0.5), Row("rain", "rain", 0.3), Row("memory:haze", "haze", 0.2, 0.7, [1, 2])]
    drawn = draw(learner, rows, [5, 3, 2])
    # By hand: N = 10, N_stage = 8, K = 2; proportional w = 2 n / 8, equal w = 1; lambda n_r / N = 0.7 * 2 / 10.
    weights = {"proportional": [5 / 4, 3 / 4], "equal": [1.0, 1.0]}[weighting]
    expected = [0.8 * weights[0] / 2, 0.8 * weights[1] / 2, 0.14]
    got = coefficients(drawn, torch.tensor(weights, dtype=torch.float64))
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


def test_averaged_weights_lag_behind_and_are_what_is_evaluated() -> None:
    learner, _ = trained(training={"ema": 0.9})
    raw, averaged = learner.model.state_dict(), learner.evaluated_weights()
    assert not tiny.same(dict(raw), dict(averaged))
