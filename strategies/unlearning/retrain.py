"""Retraining, the reference of all unlearning."""

from __future__ import annotations

from typing import ClassVar

from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Rerun


@register
class Retrain(Rerun):
    """Training from the initial weights without the forgotten tasks (Bourtoule et al., S&P 2021, Definition III.1).

    It is exact, and all other methods are measured against it. The run keeps its own row counts with the forgotten
    rows removed, so each retained task sees exactly the samples that it saw in the original run. It needs retain data.
    """

    is_reference: ClassVar[bool] = True
