"""A run that is finished stays finished: apart from the version of the numerical semantics, its hash never changes.

A change that is meant to change what a configuration computes increments that version and leaves the file alone. A
change of what an identity holds writes the file again: `python -m tests.identity.test_frozen`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmtl_ir.runs import identity

from .cases import hashes

FROZEN = Path(__file__).with_name("frozen.json")
VERSION = 3
"""Version of the semantics under which the file was written."""


def test_every_run_keeps_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "SEMANTICS_VERSION", VERSION)
    before, now = json.loads(FROZEN.read_text()), hashes()
    assert {name: now.get(name) for name in before} == before
    assert len(before) > 150


if __name__ == "__main__":
    identity.SEMANTICS_VERSION = VERSION
    FROZEN.write_text(json.dumps(hashes(), indent=1, sort_keys=True) + "\n")
