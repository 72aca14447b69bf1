"""One finished run, with a classifier of the degradation, for the claims about commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmtl_ir.runs import comparison
from tests import tiny
from tests.adaptation.cases import SMALL


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison of one strategy."""
    folder = tmp_path_factory.mktemp("adapted") / "runs"
    auxiliary = {"auxiliary": {"name": "degradation_class", "weight": 0.1}}
    comparison.run(tiny.experiment({"one": auxiliary}, **SMALL), folder, "cpu")
    return folder
