"""The language of strategies: what a part is, what it may see, and what it returns.

A part of one's own imports its contract from here: `from cmtl_ir.strategy import Weighting`. The names are imported
when they are first used, because `cmtl-ir --help` asks the registry for names and must not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cmtl_ir.strategy.adaptation import Adapter
    from cmtl_ir.strategy.data import Batch, History, Learner, Row, RowLoss, Schedule, Stage, StepContext
    from cmtl_ir.strategy.objective import Constants, Objective
    from cmtl_ir.strategy.output import Output
    from cmtl_ir.strategy.parts import Cost, Curriculum, Part, Retention, Surgery, Tier, Weighting
    from cmtl_ir.strategy.wrapped import Wrapped

__all__ = [
    "Adapter",
    "Batch",
    "Constants",
    "Cost",
    "Curriculum",
    "History",
    "Learner",
    "Objective",
    "Output",
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
    "Wrapped",
]
_MODULES = {
    "adaptation": ("Adapter",),
    "objective": ("Constants", "Objective"),
    "output": ("Output",),
    "parts": ("Cost", "Curriculum", "Part", "Retention", "Surgery", "Tier", "Weighting"),
    "wrapped": ("Wrapped",),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "data")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
