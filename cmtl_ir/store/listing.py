"""The folder of a comparison: its resolved experiment and the list of its runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError


def claim_folder(resolved: Mapping[str, Any], out: Path, fresh: bool = False) -> Path:
    """The comparison's folder, with the resolved experiment in it. Raise UserError if it belongs to another one."""
    folder = out / resolved["name"]
    file = folder / "experiment.yaml"
    text = yaml.dump(resolved)
    if file.is_file() and not fresh:
        before, now = _what_counts(yaml.read(file)), _what_counts(yaml.parse(text))
        other = [key for key in before if before[key] != now[key]]
        if other:
            raise UserError(
                f"{folder} holds another experiment of the name {resolved['name']!r}: it differs in "
                f"{', '.join(other)}. "
                "Give this one its own name (--set name=NEW), another folder (--out FOLDER), or --fresh to replace "
                "the tables (finished runs stay in the store)"
            )
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".experiment.yaml.{os.getpid()}"
    temporary.write_text(text)
    temporary.replace(file)  # whole, for others of this comparison read it now
    return folder


def _what_counts(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """What two experiments that share a table must agree in; the memory that data may take changes no score."""
    data = {key: value for key, value in resolved["data"].items() if key != "gpu_gigabytes"}
    return {key: resolved[key] for key in ("tasks", "backbone", "training", "evaluation")} | {"data": data}


def list_runs(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a comparison's runs.json, which others may be adding to: label and seed name a row."""
    file = folder / "runs.json"
    with FileLock(folder / "runs.lock", timeout=60):
        before = json.loads(file.read_text()) if file.is_file() else []
        by_name = {(row["label"], row["seed"]): row for row in [*before, *rows]}
        temporary = folder / ".runs.json.writing"
        temporary.write_text(json.dumps(list(by_name.values()), indent=1))
        temporary.replace(file)


def set_aside(folder: Path) -> None:
    """Rename an earlier run's folder: nothing is deleted."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"))
