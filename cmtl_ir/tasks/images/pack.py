"""Decode images once: all images of a source as raw pixels in one memory-mapped file, with a JSON index.

A pack has its own folder in the cache, named after its source. It is rebuilt if a file was added, removed or changed.
The new pixels get a new file name and become visible when the index is replaced atomically.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from cmtl_ir.base.files import sweep, write_whole
from cmtl_ir.tasks.images.cache import default_cache, writable
from cmtl_ir.tasks.images.decode import DataError, Decoded, ImageError, read
from cmtl_ir.tasks.images.mapping import MappedPixels

FORMAT = 2
DECODERS = min(8, os.cpu_count() or 1)
PATIENCE = 1.0
"""Seconds of decoding after which a progress bar appears."""
OnError = Literal["stop", "skip"]
log = logging.getLogger("cmtl_ir")


@dataclass(frozen=True)
class Pack:
    """An opened pack: the index of N images and their memory-mapped pixels."""

    names: tuple[str, ...]
    offsets: tuple[int, ...]
    sizes: NDArray[np.int64]  # [N, 2] height, width
    digests: tuple[str, ...]
    """Hash of each image's size and pixels."""
    orientations: tuple[int, ...]
    """EXIF orientation of each file, 1 .. 8, which is applied to the pixels."""
    mapped: MappedPixels
    skipped: dict[str, str]
    """Name -> reason, for files that are left out."""

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The HWC images one after another, [total bytes], read-only."""
        return self.mapped.pixels

    @property
    def flat(self) -> Tensor:
        """The same memory as a tensor. It must not be written to."""
        return self.mapped.flat


def open_pack(
    key: str,
    files: Mapping[str, Path],
    cache: Path | None = None,
    on_error: OnError = "stop",
    bits: int | None = None,
) -> Pack:
    """Open the pack of files (name -> path). Build it first if it is missing or stale.

    `key` names the source (absolute folder, pattern) and not its files, so that a folder with a new file replaces its
    old pack. `cache` is the folder of all packs; `None` means the default one. `bits` is the number of bits that the
    values of 16-bit files use; `None` means 16. Raise DataError with the names of files that cannot be decoded. If
    `on_error` is skip, they are left out and logged instead.
    """
    key = key if bits is None else f"{key}\0{bits} bits"
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    folder = (cache or default_cache()) / "packs" / digest
    pack = _fresh(folder, files, on_error)
    if pack is None:
        folder = writable(folder)
        with FileLock(folder / "lock"):
            pack = _fresh(folder, files, on_error)
            if pack is None:
                _build(folder, files, on_error, bits)
                pack = _fresh(folder, files, on_error)
    if pack is None:
        raise DataError(
            f"{next(iter(files.values())).parent}: its files change while they are "
            "being read; try again when they are complete"
        )
    for reason in pack.skipped.values():
        log.warning("skipped: %s", reason)
    return pack


def _fresh(folder: Path, files: Mapping[str, Path], on_error: OnError) -> Pack | None:
    """Open the pack in a folder. Return `None` if there is none or if it does not match the files as they are now."""
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["format"] != FORMAT or index["sources"] != _stamps(files):
            return None
        mapped = MappedPixels(folder / index["pixels"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sizes = np.array(index["sizes"], dtype=np.int64)
    if (index["skipped"] and on_error == "stop") or len(mapped.pixels) != int(sizes.prod(axis=1).sum()) * 3:
        return None
    columns = (tuple(index[column]) for column in ("names", "offsets", "digests", "orientations"))
    names, offsets, digests, orientations = columns
    return Pack(names, offsets, sizes, digests, orientations, mapped, index["skipped"])


def _stamps(files: Mapping[str, Path]) -> dict[str, list[int]]:
    return {name: _stamp(path) for name, path in files.items()}


def _stamp(path: Path) -> list[int]:
    """Return the time of the last change and the size of a file; impossible numbers for a dangling link."""
    try:
        stat = path.stat()
    except OSError:
        return [-1, -1]
    return [stat.st_mtime_ns, stat.st_size]


# -------------------------------------------------------------------------------------------------- building


def _build(folder: Path, files: Mapping[str, Path], on_error: OnError, bits: int | None) -> None:
    sweep(folder)
    fresh = folder / f"pixels-{uuid.uuid4().hex}.u8"
    index: dict[str, Any] = {"format": FORMAT, "pixels": fresh.name, "sources": _stamps(files)}
    index |= {"names": [], "offsets": [], "sizes": [], "digests": [], "orientations": [], "skipped": {}}
    try:
        _write_pixels(fresh, index, files, bits)
        _raise_if_broken(index, on_error)
        write_whole(folder / "index.json", json.dumps(index))
    except BaseException as error:
        fresh.unlink(missing_ok=True)
        if isinstance(error, OSError):
            way_out = "free some space, or name another folder with the environment variable CMTL_IR_CACHE"
            raise DataError(f"{folder}: cannot store decoded images: {error.strerror}; {way_out}") from error
        raise
    for old in folder.glob("pixels-*.u8"):
        if old != fresh:
            with suppress(OSError):  # Windows keeps a file that another process has mapped
                old.unlink()


def _raise_if_broken(index: dict[str, Any], on_error: OnError) -> None:
    """Raise DataError with all broken files of a folder at once, instead of one file per run."""
    reasons = list(index["skipped"].values())
    if on_error == "stop":
        reasons = [f"{reason}, or set `data.on_error: skip`" for reason in reasons]
    if reasons and (on_error == "stop" or not index["names"]):
        more = f"\n({len(reasons) - 10} more)" if len(reasons) > 10 else ""
        raise DataError("\n".join(reasons[:10]) + more)


def _write_pixels(target: Path, index: dict[str, Any], files: Mapping[str, Path], bits: int | None) -> None:
    offset = 0
    with target.open("wb") as stream, _progress(f"decoding {len(files)} images", len(files)) as advance:
        for name, found in _decoded(files, bits):
            advance()
            if isinstance(found, ImageError):
                index["skipped"][name] = str(found)
                continue
            image = found.pixels
            height, width, _ = image.shape
            digest = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
            digest.update(image.data)
            row = {"names": name, "offsets": offset, "sizes": (height, width), "digests": digest.hexdigest()}
            row["orientations"] = found.orientation
            for column, value in row.items():
                index[column].append(value)
            stream.write(image.data)
            offset += image.nbytes


def _decoded(files: Mapping[str, Path], bits: int | None) -> Iterator[tuple[str, Decoded | ImageError]]:
    """Decode in the order of `files`, a few at a time on threads (Pillow releases the lock of the interpreter)."""
    listed = list(files.items())
    with ThreadPoolExecutor(DECODERS) as threads:
        for start in range(0, len(listed), 4 * DECODERS):
            some = listed[start : start + 4 * DECODERS]
            found = threads.map(partial(_attempt, bits), (path for _, path in some))
            yield from zip((name for name, _ in some), found, strict=True)


def _attempt(bits: int | None, path: Path) -> Decoded | ImageError:
    try:
        return read(path, bits)
    except ImageError as error:
        return error


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on the standard error of a terminal if the work takes longer than `PATIENCE`."""
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task, started = bar.add_task(title, total=total), time.monotonic()

    def advance() -> None:
        bar.advance(task)
        if bar.console.is_terminal and not bar.live.is_started and time.monotonic() - started > PATIENCE:
            with suppress(LiveError):  # another bar is being shown
                bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
