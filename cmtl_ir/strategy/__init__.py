"""The language of strategies: what a part is, what it may see, and what it returns.

A part of one's own imports its contract from here: `from cmtl_ir.strategy import Weighting`. The names are imported
when they are first used, because `cmtl-ir --help` asks the registry for names and must not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmtl_ir.strategy.data import Batch, History, Learner, Row, RowLoss, Schedule, Stage, StepContext
    from cmtl_ir.strategy.parts import Cost, Curriculum, Part, Retention, Surgery, Tier, Weighting

__all__ = [
    "Batch",
    "Cost",
    "Curriculum",
    "History",
    "Learner",
    "Part",
    "Retention",
    "Row",
    "RowLoss",
    "Schedule",
    "Stage",
    "StepContext",
    "Surgery",
    "Tier",
    "Weighting",
]
_PARTS = ("Cost", "Curriculum", "Part", "Retention", "Surgery", "Tier", "Weighting")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{'parts' if name in _PARTS else 'data'}"), name)
