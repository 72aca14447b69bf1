"""The records of an experiment file on what is logged and saved while a run trains."""

from __future__ import annotations

from pydantic import Field, field_validator

from cmtl_ir.base import names
from cmtl_ir.base.record import Record


class ConflictConfig(Record):
    """Gradient-conflict statistics."""

    every: int = Field(0, ge=0)
    """Steps between logged conflict statistics; 0: never. It is part of a run's identity, because a logged step updates
    from the row gradients that it logs."""
    blocks: dict[str, list[str]] | None = None
    """Name -> shell patterns of parameter names, as in `encoder: [encoders*, downs*]`: the statistics are also
    logged for these parameters alone. Not part of a run's identity: finished runs are not trained again."""

    @field_validator("blocks")
    @classmethod
    def _block_names(cls, blocks: dict[str, list[str]] | None) -> dict[str, list[str]] | None:
        for name, patterns in (blocks or {}).items():
            names.block(name)
            if not patterns:
                raise ValueError(f"{name}: the list is empty; name one pattern or more, as in ['encoders*']")
        return blocks


class CheckpointConfig(Record):
    """When the state is saved, from which a killed run resumes to the same weights."""

    every: int = Field(200, gt=0)
    """Steps between checkpoints; one is also written at stage ends and on Ctrl-C or SIGTERM."""
    minutes: float | None = Field(10.0, gt=0)
    """Also save if the last checkpoint is older than this many minutes; null: by steps only."""
    keep: int = Field(2, ge=1)
    """Number of checkpoints to keep, the newest ones."""
