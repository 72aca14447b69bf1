"""One trained comparison for all claims about reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmtl_ir.runs import comparison
from tests import tiny

STRATEGIES = {
    "joint": {},
    "sequential": {"curriculum": "sequential"},
    "pcgrad": {"surgery": "pcgrad"},
    "single_noise": {"curriculum": {"name": "single", "task": "noise"}},
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison, OUT/tiny, of two seeds."""
    out = tmp_path_factory.mktemp("trained") / "runs"
    made = comparison.run(tiny.experiment(STRATEGIES, seeds=[0, 1]), out, "cpu")
    assert not made.failures
    return made.folder
