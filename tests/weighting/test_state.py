"""State of weightings by row name: absent rows keep their state, and saved state resumes to the same bits."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from cmtl_ir.store import checkpoint

from .cases import (
    METHODS,
    NAMES,
    STATEFUL,
    Drive,
    same,
    snapshot,
    typical,
)

STEPS = 12

every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_an_absent_row_keeps_its_state(method: str) -> None:
    drive = Drive(METHODS[method]())
    for step in range(3):
        drive.step(step, NAMES, typical(step))
    before = snapshot(drive.part)
    for step in range(3, 7):
        drive.step(step, NAMES[1:], typical(step)[1:])
    after = snapshot(drive.part)
    own = [path for path in before if NAMES[0] in path]
    assert bool(own) == (method in STATEFUL)
    assert all(same(before[path], after[path]) for path in own)
    others = [path for path in after if NAMES[1] in path]
    assert bool(others) == any(not same(before.get(path), after[path]) for path in others)


@every_method
@pytest.mark.parametrize("at", [1, 5, 9])
def test_a_saved_state_goes_on_to_the_same_bits(method: str, at: int) -> None:
    whole, first, second = (Drive(METHODS[method]()) for _ in range(3))
    for step in range(STEPS):
        whole.step(step, NAMES, typical(step))
    for step in range(at):
        first.step(step, NAMES, typical(step))
    second.part.load_state_dict(copy.deepcopy(first.part.state_dict()))
    for step in range(at, STEPS):
        second.step(step, NAMES, typical(step))
    assert first.seen + second.seen == whole.seen
    assert all(same(value, snapshot(second.part)[path]) for path, value in snapshot(whole.part).items())


@every_method
def test_a_checkpoint_holds_the_state(method: str, tmp_path: Path) -> None:
    whole, resumed = Drive(METHODS[method]()), Drive(METHODS[method]())
    for step in range(5):
        whole.step(step, NAMES, typical(step))
    path = checkpoint.save(tmp_path, {"part": whole.part.state_dict()}, step=5)
    resumed.part.load_state_dict(checkpoint.load(path).tree["part"])
    for step in range(5, STEPS):
        assert torch.equal(resumed.step(step, NAMES, typical(step)), whole.step(step, NAMES, typical(step)))


@every_method
def test_reset_forgets_everything(method: str) -> None:
    part = METHODS[method]()
    runs = [Drive(part) for _ in range(1)]
    for step in range(STEPS):
        runs[0].step(step, NAMES, typical(step))
    runs.append(Drive(part))
    for step in range(STEPS):
        runs[1].step(step, NAMES, typical(step))
    assert runs[0].seen == runs[1].seen
