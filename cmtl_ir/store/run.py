"""A run as data: its identity, its folder and the results in it."""

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
    """A run of one strategy with one seed."""

    label: str
    seed: int
    identity: dict[str, Any]
    """Everything that determines its weights and scores."""
    folder: Path
    tags: dict[str, str] = field(default_factory=dict)
    """Tags for the tracking store. They are not part of the identity."""

    @property
    def hash(self) -> str:
        """Name of the run in the store."""
        return hash_of(self.identity)

    @property
    def name(self) -> str:
        """Name of the run in messages."""
        return f"{self.label}, seed {self.seed}"

    @property
    def status(self) -> Status:
        """Status of the run: finished, killed (it has a checkpoint from which it resumes) or new."""
        if is_finished(self.folder):
            return "finished"
        return "killed" if checkpoint.newest_step(self.folder / CHECKPOINTS) is not None else "new"

    @property
    def folders(self) -> list[Path]:
        """Folder of the run, and the folders of the runs that a grouped run uses."""
        return [self.folder, *(self.folder.parent / name for name in read_uses(self.folder))]

    def result(self) -> dict[str, Any]:
        """Return scores, curve and cost of a finished run."""
        return read_result(self.folder)


def hash_of(identity: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the identity's canonical JSON."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
