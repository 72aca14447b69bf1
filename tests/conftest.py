"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed images go to a folder of the test session, never to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CMTL_IR_CACHE"] = str(folder)
    return folder


@pytest.fixture(autouse=True)
def global_generator_untouched() -> None:
    """No test may depend on torch's global generator."""
    torch.manual_seed(0)
