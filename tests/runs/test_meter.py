"""The cost of steps is that of steps alone, also over a resumption."""

from __future__ import annotations

import itertools

import pytest
import torch

from cmtl_ir.runs.watching import meter


def test_only_what_lies_between_resume_and_pause_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by 1 s with every look: two steps, an evaluation between them, a resumed third."""
    clock = map(float, itertools.count())
    monkeypatch.setattr(meter.time, "monotonic", lambda: next(clock))
    first = meter.Meter(torch.device("cpu"))
    first.pause()
    next(clock), next(clock)  # an evaluation
    first.resume()
    first.pause()
    assert (first.seconds, first.peak) == (2.0, None)
    second = meter.Meter(torch.device("cpu"))
    next(clock)
    second.load_state(first.state())
    second.pause()
    assert second.seconds == 3.0
