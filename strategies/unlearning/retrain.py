"""The reference of all unlearning."""

from __future__ import annotations

from typing import ClassVar

from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Rerun


@register
class Retrain(Rerun):
    """Training from the initial weights without the forgotten tasks (Bourtoule et al., S&P 2021, Definition III.1).

    Exact, and what every other method is measured against: the run's own row counts with the forgotten rows
    excluded, so each retained task sees the very samples that it saw in the original. Needs retain data.
    """

    is_reference: ClassVar[bool] = True
