"""Progressive learning: the same samples in crops of another side, the same bits after a stop, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cmtl_ir.base.errors import ConfigError
from cmtl_ir.config.progressive import batch_in_words, pixels_of, samples_of
from cmtl_ir.runs import plan
from cmtl_ir.runs.estimate import Estimate
from cmtl_ir.training.learner import Learner
from cmtl_ir.training.loop import train
from cmtl_ir.training.step import StepResult
from tests import tiny

PHASES: list[dict[str, Any]] = [{"until": 0.4, "patch": 8, "batch": 9}, {"until": 1}]


def learner(strategy: dict[str, Any] | None = None, phases: list[dict[str, Any]] | None = None, **more: Any) -> Learner:
    training = {"steps": 5, **({"progressive": phases} if phases else {}), **more}
    return tiny.learner(strategy, training=training)


class Stopping(tiny.Silent):
    """A watcher that notes the crops of each step and stops after one of them."""

    def __init__(self, after: int | None = None) -> None:
        super().__init__()
        self.after, self.shapes = after, list[tuple[int, ...]]()

    def stepped(self, learner: Learner, result: StepResult, rate: float) -> None:
        if learner.step == self.after:
            raise KeyboardInterrupt


def noted(made: Learner, watcher: Stopping) -> None:
    """Note the shape of the images of every pass."""
    forward = made.forward

    def noting(degraded: torch.Tensor, *rest: Any, **pair: Any) -> Any:
        watcher.shapes.append(tuple(degraded.shape))
        return forward(degraded, *rest, **pair)

    made.forward = noting  # type: ignore[method-assign]


def test_crops_and_batches_follow_the_phases_and_ids_go_on() -> None:
    made, watcher = learner(phases=PHASES), Stopping()
    noted(made, watcher)
    train(made, watcher)
    assert watcher.shapes == [(9, 3, 8, 8)] * 2 + [(6, 3, 16, 16)] * 3
    assert made.data.counters == dict.fromkeys(("noise", "rain", "haze"), 2 * 3 + 3 * 2)
    ids, task = torch.arange(4), made.task_of["noise"]
    assert task.at(16) is task and task.at(8) is task.at(8)
    assert torch.equal(task.at(8)._cut(ids).numbers, task._cut(ids).numbers)


@pytest.mark.parametrize("strategy", [{}, {"surgery": "pcgrad", "curriculum": "sequential"}])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_stopped_at_any_step_has_the_same_bits_in_the_end(strategy: dict[str, Any], after: int) -> None:
    whole, stopped = learner(strategy, PHASES, micro_batch=2), learner(strategy, PHASES, micro_batch=2)
    train(whole, tiny.Silent())
    with pytest.raises(KeyboardInterrupt):
        train(stopped, Stopping(after))
    resumed = learner(strategy, PHASES, micro_batch=2)
    resumed.load_tree(stopped.tree())
    train(resumed, tiny.Silent())
    assert tiny.same(tiny.weights(whole), tiny.weights(resumed)) and whole.data.counters == resumed.data.counters


def test_one_phase_with_the_usual_crops_is_no_phase() -> None:
    same = [{"until": 1.0, "patch": 16, "batch": 6}]
    ends = [learner({"surgery": "pcgrad"}, phases) for phases in (None, same)]
    for one in ends:
        train(one, tiny.Silent())
    assert tiny.same(*(tiny.weights(one) for one in ends))
    given = [None, same, [{"until": 0.5}, {"until": 1}], PHASES]
    hashes = [
        plan.prepare(tiny.experiment(training={"progressive": phases} if phases else {}), Path("none"), "cpu").runs[0]
        for phases in given
    ]
    assert hashes[0].hash == hashes[1].hash == hashes[2].hash != hashes[3].hash
    assert "progressive" not in hashes[1].identity["training"]


def test_row_gradients_of_both_engines_agree_in_every_phase() -> None:
    ends = []
    for engine in ("stream", "grouped"):
        made = learner({"surgery": "pcgrad"}, PHASES, engine=engine)
        train(made, tiny.Silent())
        ends.append(tiny.weights(made))
    assert all(torch.allclose(ends[0][key], ends[1][key], atol=1e-4) for key in ends[0])


def test_samples_pixels_and_time_are_counted_by_phase() -> None:
    training = {"steps": 5, "batch": 6, "progressive": PHASES}
    assert samples_of(training) == 2 * 9 + 3 * 6 and batch_in_words(training) == "9, then 6"
    assert pixels_of(training, 16) == 2 * 9 * 64 + 3 * 6 * 256
    run = plan.prepare(tiny.experiment(training={**training, "progressive": PHASES}), Path("none"), "cpu").runs[0]
    guess = Estimate(1, 2.0, {"joint": 1.0}, 6 * 256, 0.0)
    assert guess.seconds(run) == pytest.approx(2.0 * pixels_of(training, 16) / (6 * 256))


@pytest.mark.error("training.progressive: {cause}")
@pytest.mark.parametrize(
    ("cause", "phases", "more", "says"),
    [
        ("phases out of order", [{"until": 0.5}, {"until": 0.5}, {"until": 1}], {}, "`until` must increase"),
        ("no end at 1", [{"until": 0.5}], {}, r"progressive.*end at 1, found 0\.5"),
        ("crops larger than data.patch", [{"until": 1, "patch": 24}], {}, r"progressive\.0\.patch: 24 is larger than"),
        ("compile", PHASES, {"compile": True}, r"progressive changes the side .* training\.compile needs fixed"),
        ("no phase", [], {}, "end at 1, found none"),
        (
            "an unknown key",
            [{"until": 1, "size": 24}],
            {},
            r"progressive\.0\.size: unknown key; known: batch, patch, until",
        ),
    ],
)
def test_phases_that_cannot_be_trained_are_refused(
    cause: str, phases: list[dict[str, Any]], more: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        tiny.experiment(training={"progressive": phases, **more})
    assert str(told.value).count("\n") == 1


@pytest.mark.error("training.progressive: stored outputs")
def test_a_retention_that_stores_outputs_needs_one_side() -> None:
    der = {"one": {"curriculum": "sequential", "retention": "der"}}
    with pytest.raises(ConfigError, match=r"strategies\.one\.retention der stores outputs for crops of one side"):
        tiny.experiment(der, training={"progressive": PHASES})
    own = {"one": {**der["one"], "training": {"progressive": [{"until": 0.5, "batch": 3}, {"until": 1}]}}}
    assert tiny.experiment(own).strategies["one"].training is not None
