"""One run as data: what it is, where it is stored, and what it left there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cmtl_ir.store import checkpoint
from cmtl_ir.store.folder import is_finished, read_result, read_uses
from cmtl_ir.store.layout import CHECKPOINTS

Status = Literal["finished", "killed", "new"]


@dataclass(frozen=True)
class Run:
    """One strategy under one seed."""

    label: str
    seed: int
    identity: dict[str, Any]
    """Everything that matters to its weights and scores."""
    folder: Path
    tags: dict[str, str] = field(default_factory=dict)
    """For the tracking store; no part of what the run is."""

    @property
    def hash(self) -> str:
        """The run's name in the store."""
        return hash_of(self.identity)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.label}, seed {self.seed}"

    @property
    def status(self) -> Status:
        """finished, killed (it has a checkpoint to resume from) or new."""
        if is_finished(self.folder):
            return "finished"
        return "killed" if checkpoint.newest_step(self.folder / CHECKPOINTS) is not None else "new"

    @property
    def folders(self) -> list[Path]:
        """Its own folder, and those of the runs that a grouped run uses."""
        return [self.folder, *(self.folder.parent / name for name in read_uses(self.folder))]

    def result(self) -> dict[str, Any]:
        """Scores, curve and cost of a finished run."""
        return read_result(self.folder)


def hash_of(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a SHA-256 over the canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
