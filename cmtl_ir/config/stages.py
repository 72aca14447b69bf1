"""Stages of a curriculum that train on auxiliary objectives alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmtl_ir.config.experiment import Strategy


def refuse_stages_without_a_loss(strategies: Mapping[str, Strategy]) -> None:
    """Raise ValueError for a stage whose objectives are not in the auxiliary list of its strategy."""
    for label, strategy in strategies.items():
        curriculum = strategy.curriculum
        for stage, objectives in curriculum.stands_on.items():
            own = [one for one in strategy.auxiliary if one.called in objectives]
            if not any(one.acts_throughout(stage) for one in own):
                raise ValueError(
                    f"strategies.{label}.curriculum: the stage {stage!r} of {curriculum.called} trains on "
                    f"{' or '.join(objectives)} alone: list it under auxiliary, to act throughout that stage"
                )
