"""Finished runs of the tiny experiment, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmtl_ir.runs import comparison
from cmtl_ir.unlearning.origin import Origin, find_origin
from tests import tiny


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with finished runs: joint and sequential."""
    out = tmp_path_factory.mktemp("unlearning") / "runs"
    made = comparison.run(tiny.experiment({"joint": {}, "sequential": {"curriculum": "sequential"}}), out, "cpu")
    assert not made.failures
    return out


@pytest.fixture(scope="session")
def joint(store: Path) -> Origin:
    """The joint run, ready to forget."""
    return find_origin("tiny/joint", store, "cpu")


@pytest.fixture(scope="session")
def sequential(store: Path) -> Origin:
    """The run that learnt noise, then rain, then haze."""
    return find_origin("tiny/sequential", store, "cpu")
