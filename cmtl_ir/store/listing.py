"""The folder of a comparison: its resolved experiment and the list of its runs."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cmtl_ir.base import yaml
from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.base.files import sweep, write_json, write_whole
from cmtl_ir.store.layout import EXPERIMENT, RUNS, RUNS_LOCK

STALE = "stale"
"""Key of a row whose run no longer counts."""
log = logging.getLogger("cmtl_ir")


class DamagedList(UserError):
    """Raised for a list of runs that is not what was written. Names the file and the way out."""


def claim_folder(resolved: Mapping[str, Any], out: Path, fresh: bool = False) -> Path:
    """Return the folder of a comparison and write the resolved experiment to it.

    Raises UserError if the folder holds another experiment, unless `fresh` is true.
    """
    folder = out / resolved["name"]
    file = folder / EXPERIMENT
    text = yaml.dump(resolved)
    if file.is_file() and not fresh:
        before, now = _counted_before(file), what_counts(yaml.parse(text))
        other = [key for key in before if before[key] != now[key]]
        if other:
            raise UserError(
                f"{folder} holds another experiment of the name {resolved['name']!r}: it differs in "
                f"{', '.join(other)}. "
                "Give this one its own name (--set name=NEW), another folder (--out FOLDER), or --fresh to replace "
                "the tables (finished runs stay in the store)"
            )
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    write_whole(file, text)  # other processes of this comparison read it now
    return folder


def _counted_before(file: Path) -> dict[str, Any]:
    try:
        return what_counts(yaml.read(file))
    except (UserError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} is damaged ({brief(error)}): move it away (mv {file} {file}.damaged), and the same command writes "
            "it again"
        ) from error


def what_counts(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in which experiments of one table must agree. The memory for data changes no score."""
    data = {key: value for key, value in resolved["data"].items() if key != "gpu_gigabytes"}
    return {key: resolved[key] for key in ("tasks", "backbone", "training", "evaluation")} | {"data": data}


def has_list(folder: Path) -> bool:
    """Return whether the folder is that of a comparison."""
    return (folder / RUNS).is_file()


def listed_runs(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a comparison's list of runs: label, seed, hash and further entries. Empty without a list.

    Stale runs are left out. Raises DamagedList if the file is not what was written.
    """
    return [row for row in _rows(folder) if not row.get(STALE)]


def stale_runs(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of runs that were trained under another definition of their strategy. They count nowhere.

    Raises DamagedList if the file is not what was written.
    """
    return [row for row in _rows(folder) if row.get(STALE)]


def _rows(folder: Path) -> list[dict[str, Any]]:
    if not has_list(folder):
        return []
    try:
        rows: list[dict[str, Any]] = json.loads((folder / RUNS).read_text())
        whole = all({"label", "seed", "hash"} <= row.keys() for row in rows)
    except (ValueError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DamagedList(
            f"{folder / RUNS} is damaged: move it away (mv {folder / RUNS} {folder / RUNS}.damaged) and give the "
            "experiment's command again, which lists its runs; finished ones are skipped"
        )
    return rows


def comparisons(out: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """Yield (folder, rows of its list of runs) of every comparison in `out`, sorted by name.

    A comparison whose list is damaged is left out, with a warning, so that it does not block the others.
    """
    for file in sorted(Path(out).glob(f"*/{RUNS}")):
        try:
            yield file.parent, listed_runs(file.parent)
        except DamagedList as error:
            log.warning("%s", error)


def list_runs(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    stale: Callable[[Mapping[str, Any]], bool] | None = None,
    fresh: bool = False,
) -> None:
    """Add rows to a comparison's list of runs, replacing rows of the same label and seed.

    `stale` says of the other rows whether they belong to another definition of their strategy; such runs no longer
    count. `None` leaves these rows as they are. Several processes may add rows at the same time. If `fresh` is true, a
    damaged list is set aside.
    """
    try:
        with FileLock(folder / RUNS_LOCK, timeout=60):
            known = _readable_list(folder, fresh)
            if stale is not None:
                known = [{**_without_mark(row), **({STALE: True} if stale(row) else {})} for row in known]
            by_name = {(row["label"], row["seed"]): row for row in [*known, *rows]}
            write_json(folder / RUNS, list(by_name.values()))
    except Timeout:
        raise UserError(f"another process has been writing {folder / RUNS} for 60 s: has it hung?") from None


def _readable_list(folder: Path, fresh: bool) -> list[dict[str, Any]]:
    try:
        return _rows(folder)
    except DamagedList:
        if not fresh:
            raise
        set_aside(folder / RUNS)
        return []


def _without_mark(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != STALE}


def set_aside(folder: Path) -> None:
    """Rename the folder or file of an earlier run, if it exists, so that nothing is deleted."""
    if folder.exists():
        folder.rename(folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"))
