"""When the state of a run is saved."""

from __future__ import annotations

from pydantic import Field

from cmtl_ir.base.record import Record


class CheckpointConfig(Record):
    """When the state is saved, from which a killed run resumes to the same weights."""

    every: int = Field(200, gt=0)
    """Steps between checkpoints; one is also written at stage ends and on Ctrl-C or SIGTERM."""
    minutes: float | None = Field(10.0, gt=0)
    """Also save if the last checkpoint is older than this many minutes; null: by steps only."""
    keep: int = Field(2, ge=1)
    """Number of checkpoints to keep, the newest ones."""
