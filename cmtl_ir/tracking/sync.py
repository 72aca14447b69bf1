"""Deliver to a tracking store what it missed while it could not be reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from cmtl_ir.base.errors import UserError
from cmtl_ir.tracking.store import deliver


@dataclass
class Synced:
    """The result of a delivery of all runs below a folder."""

    delivered: int = 0
    at_work: list[Path] = field(default_factory=list)
    """Folders of runs that are being trained."""


def sync(folder: Path, uri: str | None = None) -> Synced:
    """Deliver what is pending in all runs below a folder, except those that another process trains."""
    homes = sorted(file.parent for file in Path(folder).rglob("delivery.json"))
    if not homes:
        raise UserError(f"{folder} holds no runs: name the folder that --out named")
    done = Synced()
    for home in homes:
        try:
            with FileLock(home / "lock", timeout=0):
                done.delivered += deliver(home, uri)
        except Timeout:
            done.at_work.append(home)
    return done
