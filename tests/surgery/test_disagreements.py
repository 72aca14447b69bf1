"""Where TorchJD 0.18 and we differ, and we mean it: each pinned with the reason."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from . import claims
from .families import nearly_equal_rows, normal, stationary, uneven
from .test_claims import maker
from .test_oracle import ours, quadprog

jd = pytest.importorskip("torchjd.aggregation", reason='pip install "torchjd[full]"')
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def worst_cosine(rows: torch.Tensor, update: torch.Tensor) -> float:
    """The least cosine of the update with a row."""
    return float((rows @ update / rows.norm(dim=1)).min() / update.norm())
