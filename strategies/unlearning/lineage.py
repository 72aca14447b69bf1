"""Restart from the stage before the forgotten task, continued without it."""

from __future__ import annotations

from collections.abc import Sequence

from cmtl_ir.strategy.data import Stage
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Rerun


@register
class Lineage(Rerun):
    """Restart from the result of the last stage that never saw the task [ours; SISA's slices, Bourtoule et al. 2021].

    It is exact: bit for bit equal to a run that never saw the task. It costs the later stages only. On a joint run,
    whose first stage saw everything, it is retraining. It needs retain data of the later stages.
    """

    def starting_stage(self, stages: Sequence[Stage], forgotten: Sequence[str]) -> int:
        """Return the number of leading stages without a forgotten task."""
        for number, stage in enumerate(stages):
            if {row.rpartition(":")[2] for row in stage.mixture} & set(forgotten):
                return number
        return len(stages)
