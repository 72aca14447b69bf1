"""Back to the stage before the task, and on without it."""

from __future__ import annotations

from collections.abc import Sequence

from cmtl_ir.strategy.data import Stage
from cmtl_ir.strategy.registry import register
from cmtl_ir.strategy.unlearning import Rerun


@register
class Lineage(Rerun):
    """Restart from the result of the last stage that never saw the task [ours; SISA's slices, Bourtoule et al. 2021].

    Exact: equal, bit for bit, to a run that never saw it. Costs the later stages only; on a joint run, whose first
    stage saw everything, it is retraining. Needs retain data of the later stages.
    """

    def starting_stage(self, stages: Sequence[Stage], forgotten: Sequence[str]) -> int:
        """The number of leading stages without a forgotten task."""
        for number, stage in enumerate(stages):
            if {row.rpartition(":")[2] for row in stage.mixture} & set(forgotten):
                return number
        return len(stages)
