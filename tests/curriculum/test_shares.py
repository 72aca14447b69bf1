"""Curricula that measure before they choose shares: `unsatisfied` and `mixing_law`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError, UserError
from cmtl_ir.base.ranks import Ranks
from cmtl_ir.runs import comparison as runs
from cmtl_ir.runs import followers
from cmtl_ir.runs.plan import prepare
from cmtl_ir.strategies.curriculum._mixing import Law, best_mixture, fitted, left_out, probed
from cmtl_ir.strategies.curriculum.mixing_law import MixingLaw
from cmtl_ir.strategies.curriculum.unsatisfied import Unsatisfied, decibels, groups_of
from cmtl_ir.strategy.data import Batch
from cmtl_ir.strategy.output import Output
from cmtl_ir.training.loop import train
from tests import tiny

from .cases import Still, history, walk

SHORT: dict[str, Any] = {"training": {"steps": 4, "batch": 6}, "data": {"patch": 8}, "conflict": {"every": 0}}
TASKS = ("a", "b", "c")


class Gaining(Still):
    """Fine-tuning lowers the error of each task by a given number of dB."""

    gains: dict[str, float]

    def __init__(self, **gains: float) -> None:
        super().__init__(tuple(gains))
        self.gains = gains

    def batch(self, task: str, ids: Tensor) -> Batch:
        clean = torch.zeros(len(ids), 3, 4, 4)
        return Batch(task, ids, clean + 0.1, clean)

    def fine_tuned(self, task: str, steps: int, rate: float) -> nn.Module:
        assert (steps, rate) == (100, 0.2)
        return Scaled(10 ** (-self.gains[task] / 20))

    def restore(self, batch: Batch, network: Any = None) -> Any:
        return Output.of(network(batch.degraded))


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


# ------------------------------------------------------------------------------------------------- unsatisfied


def test_a_task_belongs_to_the_group_of_the_highest_threshold_that_it_exceeds() -> None:
    gains = {"a": 0.7, "b": 1.5, "c": 0.1, "d": 0.9, "e": 0.2}
    assert groups_of(gains, (0.8, 0.6, 0.4, 0.2)) == [["b", "d"], ["a"]]
    assert groups_of(gains, (0.05,)) == [list(gains)] and groups_of(gains, (2.0,)) == []


def test_groups_share_the_remaining_steps_from_the_highest_threshold_down() -> None:
    learner = Gaining(a=0.5, b=1.0, c=0.1)
    stages = walk(Unsatisfied(), TASKS, 100, learner=learner)
    assert [(one.name, dict(one.mixture), one.steps, one.span) for one in stages] == [
        ("joint", dict.fromkeys(TASKS, 1 / 3), 70, (0, 100)),
        ("group-1", {"b": 1.0}, 15, (70, 100)),
        ("group-2", {"a": 1.0}, 15, (85, 100)),
    ]
    satisfied = walk(Unsatisfied(), TASKS, 100, learner=Gaining(a=0.19, b=-1.0, c=0.1))
    assert [(one.name, one.steps, one.span) for one in satisfied] == [("joint", 70, (0, 100)), ("joint", 30, (70, 100))]
    assert [(one.steps, one.span) for one in walk(Unsatisfied(thresholds=()), TASKS, 100)] == [(100, None)]


def test_decibels_are_those_of_each_image() -> None:
    batch = Gaining(a=0.0).batch("a", torch.arange(2))
    assert decibels(Gaining(a=0.0), batch, Scaled(1.0)).tolist() == pytest.approx([20.0, 20.0])  # type: ignore[arg-type]


@pytest.mark.error("strategy: unsatisfied with too few steps or thresholds that rise")
def test_too_few_steps_and_rising_thresholds_are_refused() -> None:
    with pytest.raises(ConfigError, match="5 steps are too few for unsatisfied"):
        Unsatisfied().next_stage(history(TASKS, 5))
    with pytest.raises(UserError, match="the thresholds must fall"):
        tiny.experiment({"one": {"curriculum": {"name": "unsatisfied", "thresholds": [0.2, 0.4]}}})


def test_fine_tuning_trains_a_copy_on_the_samples_that_come_next() -> None:
    learner = tiny.learner({}, **SHORT)
    before = tiny.weights(learner)
    tuned = learner.fine_tuned("rain", 2, 0.5)
    assert tiny.same(before, tiny.weights(learner)) and learner.data.counters == {} and not tuned.training
    alone = tiny.learner(
        {"curriculum": {"name": "single", "task": "rain"}},
        **{**SHORT, "training": {"steps": 2, "batch": 6, "schedule": "constant", "optimizer": {"lr": 2e-3}}},
    )
    train(alone, tiny.Silent())
    assert tiny.same(tiny.weights(alone), dict(tuned.state_dict()))


# -------------------------------------------------------------------------------------------------- mixing_law


def law(c: float, b: float, *t: float) -> Law:
    return Law(c, torch.tensor(t, dtype=torch.float64) + torch.tensor(b, dtype=torch.float64).log())


def test_the_best_mixture_has_the_worked_value() -> None:
    """K = 2: L_a = .02 + .05 e^(-3 r), L_b = .03 + .08 e^(-2 (1 - r)): r = .387092296, sum .089135769."""
    laws = [law(0.02, 0.05, -3.0, 0.0), law(0.03, 0.08, 0.0, -2.0)]
    found = best_mixture(laws, [1.0, 1.0], 0.8)
    assert found.tolist() == pytest.approx([0.387092296, 1 - 0.387092296], abs=5e-10)
    for mixture, total in ((found, 0.089135769), (torch.full((2,), 0.5, dtype=torch.float64), 0.090586863)):
        assert float(sum(one(mixture[None])[0] for one in laws)) == pytest.approx(total, abs=5e-10)
    assert best_mixture(laws, [1.0, 1e6], 0.8).tolist() == pytest.approx([0.9, 0.1])  # not beyond what was tried


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_fit_recovers_a_law_from_its_losses(count: int) -> None:
    mixtures = probed(count, 0.8)
    assert mixtures.shape == (2 * count + 1, count) and len({tuple(row) for row in mixtures.tolist()}) == 2 * count + 1
    torch.testing.assert_close(mixtures.sum(1), torch.ones(2 * count + 1, dtype=torch.float64))
    true = law(0.02, 0.05, *(-1.5 - 0.5 * k for k in range(count)))
    found = fitted(mixtures, true(mixtures))
    assert found.c == pytest.approx(true.c) and found.t.tolist() == pytest.approx(true.t.tolist())
    assert left_out(mixtures, true(mixtures)) < 1e-9
    assert left_out(mixtures, torch.rand(2 * count + 1, dtype=torch.float64) + 0.1) > 0.05


def test_equal_losses_lead_to_equal_shares_and_none_to_joint_training() -> None:
    flat = [fitted(probed(3, 0.8), torch.ones(7, dtype=torch.float64))] * 3
    assert best_mixture(flat, [1.0] * 3, 0.8).tolist() == pytest.approx([1 / 3] * 3)
    assert MixingLaw(proxy=0.0).proxies(TASKS) == [] == MixingLaw().proxies(("a",))
    assert [one.mixture for one in walk(MixingLaw(proxy=0.0), TASKS, 9)] == [dict.fromkeys(TASKS, 1 / 3)]


def test_its_short_runs_come_first_and_are_found_again(tmp_path: Path) -> None:
    strategy = {"curriculum": {"name": "mixing_law", "proxy": 0.5}, "surgery": "pcgrad"}
    over = {**SHORT, "tasks": {"haze": None}, "evaluation": {"every": 0}, "data": {"patch": 8, "test_crop": 16}}
    made = tiny.experiment({"mixed": strategy}, **over)
    (run,) = runs.run(made, tmp_path, "cpu").runs
    assert run.status == "finished"
    stored = [one for one in (tmp_path / "store").iterdir() if one.is_dir()]
    assert len(stored) == 1 + 7
    written = {one: (one / "weights.safetensors").stat().st_mtime_ns for one in stored if one != run.folder}
    (planned,) = prepare(made, tmp_path, "cpu").planned
    with pytest.raises(UserError, match="mixing_law: this run has no proxies"):
        train(planned.learner(), tiny.Silent())
    (moved,) = [one for one in stored if one == run.folder]
    moved.rename(tmp_path / "before")
    (again,) = runs.run(made, tmp_path, "cpu").runs
    both = [(one / "weights.safetensors").read_bytes() for one in (again.folder, tmp_path / "before")]
    assert both[0] == both[1] and set(again.folders) == set(stored)
    assert written == {one: (one / "weights.safetensors").stat().st_mtime_ns for one in written}


@pytest.mark.error("distributed: mixing_law under torchrun")
def test_ranks_do_not_share_short_runs() -> None:
    made = tiny.experiment({"mixed": {"curriculum": "mixing_law"}})
    with pytest.raises(ConfigError, match=r"strategies\.mixed\.curriculum: the short runs that mixing_law stands on"):
        followers.check(made, Ranks(0, 2), parallel=False)
