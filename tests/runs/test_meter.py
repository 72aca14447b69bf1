"""The cost of steps is that of steps alone, also over a resumption."""

from __future__ import annotations

import itertools

import pytest
import torch

from cmtl_ir.base import memory
from cmtl_ir.runs.watching import meter
from cmtl_ir.training.loop import train
from cmtl_ir.training.passes import Passes
from tests import tiny


def test_only_what_lies_between_resume_and_pause_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that advance by 1 and 2 s with every look: two steps, an evaluation between them, a resumed third."""
    clock, processor = map(float, itertools.count()), map(float, itertools.count(step=2))
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(meter.time, "process_time", lambda: next(processor))
    passes = Passes()
    first = meter.Meter(torch.device("cpu"), passes)
    passes.forward, passes.backward = 6, 6
    first.pause()
    next(clock), next(processor)
    passes.forward = 20  # an evaluation
    first.resume()
    passes.forward, passes.backward = 26, 12
    first.pause()
    assert (first.seconds, first.cpu_seconds) == (2.0, 4.0) and (first.forward, first.backward) == (12, 12)
    assert first.cuda_seconds is None
    second = meter.Meter(torch.device("cpu"), Passes())
    next(clock)
    second.load_state(first.state())
    second.pause()
    assert (second.seconds, second.cpu_seconds, second.forward) == (3.0, 6.0, 12)


def test_a_checkpoint_of_an_older_version_leaves_what_it_lacks_unknown() -> None:
    resumed = meter.Meter(torch.device("cpu"), Passes())
    resumed.load_state({"seconds": 1.0, "peak": None})
    resumed.pause()
    costs = resumed.costs()
    assert costs["step_seconds"] > 1.0
    assert costs["step_cpu_seconds"] is None and costs["samples_forward"] is None


@pytest.mark.skipif(not memory.reset_peak(), reason="this system cannot reset the peak of resident memory")
def test_the_peak_counts_what_a_step_freed_and_nothing_from_before_the_run() -> None:
    size = 96 << 20
    before = b"1" * size
    del before
    one = meter.Meter(torch.device("cpu"), Passes())
    during = b"1" * (size // 2)
    del during
    one.pause()
    two = meter.Meter(torch.device("cpu"), Passes())
    two.pause()
    assert one.peak is not None and two.peak is not None
    assert size // 4 < one.peak - two.peak < size


@pytest.mark.parametrize(
    ("strategy", "fields", "forward", "backward"),
    [
        ({}, {}, 1, 1),
        ({"surgery": "pcgrad"}, {"engine": "grouped"}, 1, 1),
        ({"surgery": "pcgrad"}, {"engine": "stream"}, 1, 1),
        ({"surgery": "pcgrad"}, {"micro_batch": 1}, 2, 1),
        ({"weighting": "famo"}, {}, 2, 1),
    ],
)
def test_passes_are_counted_in_samples(
    strategy: dict[str, str], fields: dict[str, object], forward: int, backward: int
) -> None:
    """Batches of 6 samples: one pass each, a second forward pass of large rows or of a second look at the losses."""
    learner = tiny.learner(strategy, training={"steps": 2, **fields})
    train(learner, tiny.Silent())
    assert (learner.passes.forward, learner.passes.backward) == (12 * forward, 12 * backward)
