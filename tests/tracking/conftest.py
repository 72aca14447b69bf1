"""A store of each test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cmtl_ir.tracking.store import Tracking


@pytest.fixture
def store(empty_store: Path, tmp_path: Path) -> Tracking:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Tracking(None, tmp_path)
