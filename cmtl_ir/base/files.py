"""Files that are written whole or not at all, and what killed processes leave of them.

A file is written under a temporary name next to its place, flushed to the disk and renamed. The temporary name says
which process writes it, `.NAME.HOST-PID-TIME.writing`, so that the leftovers of killed processes can be recognized.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cmtl_ir.base.errors import UserError

_HOST = re.sub(r"\W", "_", platform.node())
_TEMPORARY = re.compile(
    r"\..+\.(?P<host>\w*)-(?P<pid>\d+)-\d+\.writing"  # of this version
    r"|\..+\.(?:json|yaml|safetensors)\.(?P<old>\d+)(?:-\d+)?"  # of earlier ones
    r"|.+\.writing"
)
ABANDONED = 24 * 3600.0
"""Seconds after which a temporary file of another machine is taken for a leftover."""


def write_whole(path: Path, content: str | bytes | Iterable[Any]) -> Path:
    """Replace a file as a whole and return its path; whoever reads it sees the old content or the new.

    `content` is text (written as UTF-8), bytes, or an iterable of bytes-like pieces. An OSError names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{time.time_ns()}.writing")
    data = content.encode() if isinstance(content, str) else content
    try:
        write_flushed(temporary, [data] if isinstance(data, bytes) else data)
        temporary.replace(path)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    flush_folder(path.parent)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Replace a JSON file as a whole. NaN and infinities, which JSON does not have, are written as null."""
    return write_whole(path, json_text(value))


def json_text(value: Any, indent: int | None = 1) -> str:
    """Return plain data as JSON, with null for NaN and infinities. `indent=None` writes one line."""
    return json.dumps(_without_nan(value), indent=indent, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    return [_without_nan(one) for one in value] if isinstance(value, list | tuple) else value


def or_nan(value: float | None) -> float:
    """Return a number that was read from JSON, NaN for null."""
    return math.nan if value is None else value


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Replace a CSV file as a whole; cells that a row lacks are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return write_whole(path, text.getvalue())


def write_flushed(path: Path, pieces: Iterable[Any]) -> str:
    """Write bytes-like pieces to the disk itself and return their SHA-256. An OSError names the file."""
    digest = hashlib.sha256()
    try:
        with open(path, "wb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Write a folder's entries to the disk: after that, a rename in it outlives a power failure."""
    if os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> list[Path]:
    """Remove the temporary files that killed processes left in a folder and below it, and return their paths.

    Files of living processes stay. Of another machine's processes only files older than a day are removed.
    """
    found = [path for path in Path(folder).rglob("*") if _is_leftover(path)]
    for path in found:
        with suppress(OSError):  # another process was faster
            path.unlink()
    return found


def _is_leftover(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or not path.is_file():
        return False
    if match["host"] not in (None, _HOST):
        with suppress(OSError):
            return time.time() - path.stat().st_mtime > ABANDONED
        return False
    pid = match["pid"] or match["old"]
    return pid is None or not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no such number
        return True
    return True


def check_folder(folder: Path, key: str) -> None:
    """Raise UserError if a folder cannot be made or written to; `key` names it in the message. Nothing is made."""
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UserError(f"{key}: {nearest} is a file, not a folder; name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{key}: {nearest} is not writable; make it writable, or name another place")
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:  # the administrator may write everywhere, but no files to a /proc
        raise UserError(f"{key}: {nearest} takes no files ({error.strerror}); name another place") from error
