"""Control for the exposure under `cumulative`: every task is seen as often, but from the start."""

from __future__ import annotations

from dataclasses import replace

from cmtl_ir.strategy.data import History, Stage
from cmtl_ir.strategy.registry import register

from ._stages import exposures, shares
from .cumulative import Cumulative


@register
class MixedMatched(Cumulative):
    """Static shares equal to the exposures of `cumulative`, with its stage lengths and restarts [ours].

    The two then differ in the order alone. Under MiOIR's curriculum of 7 tasks, the first task is seen 5.3 times as
    often as the last (.302 against .057 of all samples), which nobody reports.
    """

    def plan(self, history: History) -> list[Stage]:
        """Return the stages `matched-1`, `matched-2` and so on, all with the same mixture."""
        stages = super().plan(history)
        mixture = shares(exposures(stages))
        return [replace(stage, name=f"matched-{i + 1}", mixture=mixture) for i, stage in enumerate(stages)]
