"""Tasks that a stage trains, and tasks trained in earlier stages."""

from __future__ import annotations

from collections.abc import Sequence

from cmtl_ir.strategy.data import Stage


def own_tasks(stage: Stage) -> list[str]:
    """Return the tasks that a stage trains from their own streams.

    A row such as `review:rain` draws old samples and does not count.
    """
    return [name for name, share in stage.mixture.items() if share > 0 and name not in stage.memory and ":" not in name]


def old_tasks(seen: Sequence[str], stage: Stage) -> list[str]:
    """Return the tasks of `seen`, trained in earlier stages, that this stage does not train itself."""
    return [task for task in seen if task not in own_tasks(stage)]
