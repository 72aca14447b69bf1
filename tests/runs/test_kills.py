"""A handful of the kills that `python -m tests.runs.kills` makes by the hundred; of more families before a release."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(
    ("families", "kills"),
    [(["review", "unlearning"], 4), pytest.param(["gem + cagrad", "search"], 4, marks=pytest.mark.release)],
    ids=str,
)
def test_what_is_killed_anywhere_goes_on_to_the_same_bits(families: list[str], kills: int) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.runs.kills", "--kills", str(kills), "--only", *families]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} kills, seed 0: all bits equal to unbroken runs" in done.stdout
    assert done.stdout.count("| equal |") == len(families)
