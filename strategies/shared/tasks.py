"""Which tasks a stage trains, and which were trained before it."""

from __future__ import annotations

from collections.abc import Sequence

from cmtl_ir.strategy.data import Stage


def own_tasks(stage: Stage) -> list[str]:
    """Tasks that a stage trains from their own streams: `review:rain` draws old samples and does not count."""
    return [name for name, share in stage.mixture.items() if share > 0 and name not in stage.memory and ":" not in name]


def old_tasks(seen: Sequence[str], stage: Stage) -> list[str]:
    """Those of the tasks seen in earlier stages that this stage does not train itself."""
    return [task for task in seen if task not in own_tasks(stage)]
