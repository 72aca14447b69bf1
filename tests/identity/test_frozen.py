"""A run that is finished stays finished: its hash is what it was when it was trained.

A change that is meant to change what a configuration computes increments the version of the semantics and writes the
file again: `python -m tests.identity.test_frozen`.
"""

from __future__ import annotations

import json
from pathlib import Path

from .cases import hashes

FROZEN = Path(__file__).with_name("frozen.json")


def test_every_run_keeps_its_hash() -> None:
    before, now = json.loads(FROZEN.read_text()), hashes()
    assert {name: now.get(name) for name in before} == before
    assert len(before) > 150


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(hashes(), indent=1, sort_keys=True) + "\n")
