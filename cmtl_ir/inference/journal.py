"""What was restored into a folder: an interrupted restoration continues where it stopped, and never mixes networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.inference.published import Published
from cmtl_ir.inference.targets import Job
from cmtl_ir.store.layout import GROUPS, WEIGHTS

NAME = ".restored.jsonl"


class Journal:
    """A file in the target folder with one line per restored image: its name, what it was made of, and its SHA-256."""

    def __init__(self, folder: Path, by: str) -> None:
        self.folder, self.by = folder, by
        self._lines = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if not (self.folder / NAME).is_file():
            return found
        for line in (self.folder / NAME).read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
                found[entry["target"]] = entry
            except (ValueError, TypeError, KeyError):
                continue  # the last line of a killed process
        return found

    def holds(self, job: Job) -> bool:
        """Return whether a target is whole and was restored from this very source by the same network."""
        return job.target.is_file() and self._lines.get(self._name(job)) == self._entry(job, digest_of(job.target))

    def add(self, job: Job, content: bytes) -> None:
        """Record that an image file of this content was written. Raises OSError."""
        entry = self._entry(job, hashlib.sha256(content).hexdigest())
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / NAME).open("a") as file:
            file.write(("" if file.tell() == 0 or self._ends_whole() else "\n") + json.dumps(entry) + "\n")
        self._lines[entry["target"]] = entry

    def _ends_whole(self) -> bool:
        return (self.folder / NAME).read_bytes().endswith(b"\n")

    def _entry(self, job: Job, written: str) -> dict[str, Any]:
        return {"target": self._name(job), "source": digest_of(job.source), "by": self.by, "written": written}

    def _name(self, job: Job) -> str:
        return job.target.relative_to(self.folder).as_posix()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or an empty string if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def maker_of(used: Path | Published, how: Mapping[str, Any]) -> str:
    """Return a short hash of the network that restores, and of everything else that its answers depend on."""
    if isinstance(used, Published):
        parts: dict[str, Any] = {"weights": digest_of(used.file), "backbone": dict(used.backbone)}
    else:
        parts = {"run": used.name, **{name: digest_of(used / name) for name in (WEIGHTS, GROUPS)}}
    text = json.dumps({**parts, **how}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remaining(jobs: list[Job], journal: Journal | None, overwrite: bool) -> list[Job]:
    """Return the jobs that are still to be done: with `overwrite` all of them, else those that `journal` lacks.

    Raises UserError if a target exists that was not restored from the same image in the same way.
    """
    if overwrite:
        return jobs
    waiting = [job for job in jobs if journal is None or not journal.holds(job)]
    if standing := [job.target for job in waiting if job.target.exists()]:
        way = "" if journal is None else ", and was not restored from the same image by the same network"
        raise UserError(
            f"{standing[0]} exists{way} ({len(standing)} of {len(jobs)} files); give --overwrite to replace it, or "
            "name another target"
        )
    return waiting
