"""The folder where decoded images are stored between runs."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

log = logging.getLogger("cmtl_ir")


def default_cache() -> Path:
    """Return CMTL_IR_CACHE, else XDG_CACHE_HOME/cmtl-ir, else ~/.cache/cmtl-ir."""
    if given := os.environ.get("CMTL_IR_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "cmtl-ir"


def cached_folders() -> list[Path]:
    """Return the folders of the cache, one per source of images."""
    home = default_cache()
    return sorted(one for pattern in ("packs/*", "dead_leaves-*") for one in home.glob(pattern) if one.is_dir())


def writable(folder: Path) -> Path:
    """Create a folder and return it, or a temporary folder of this process if it cannot be written to (logged)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        substitute = _temporary() / folder.name
        if not substitute.exists():
            log.warning(
                "cannot write to %s (%s): decoded images go to %s until this program ends; "
                "set CMTL_IR_CACHE to a folder that may be written to",
                folder,
                error.strerror,
                substitute,
            )
        substitute.mkdir(exist_ok=True)
        return substitute


@cache
def _temporary() -> Path:
    folder = tempfile.mkdtemp(prefix="cmtl-ir-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
