"""Decode image files to arrays [H, W, 3] of uint8 RGB, and find the image files of a folder.

The following is lost or changed. Of 16-bit grey and colour the high byte is kept, or the highest 8 of the bits that
`data.bits` names. Floating-point numbers in [0, 1] are rounded to 8 bits. Grey, palette, CMYK and YCbCr become RGB
without colour management, and embedded ICC profiles are ignored. EXIF orientation is applied. An opaque alpha channel
is dropped. An image with transparent pixels is refused, because the colour under them is undefined. So is a TIFF of
several frames, which may be pages, channels or a video. Of an animation in another format the first frame is used.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import time
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cmtl_ir.base.errors import UserError, suggestion
from cmtl_ir.tasks.images.scale import FULL, UnusedRange, from_floats, from_integers, has_sixteen_bits, keep_low_bytes

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2"})
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""Exceptions that Pillow raises for files that are truncated, damaged or not images."""
ORIENTATION = 0x0112
"""The EXIF tag that states how the camera was held."""
SUBFILE, AUXILIARY = 0x00FE, 0b101
"""The TIFF tag that states what a frame is, and its bits for a reduced version or a mask of another frame."""
SPECIAL = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder",
           stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}  # fmt: skip
MOST_ENTRIES, DEEPEST = 5_000_000, 64
"""Number of entries of a folder tree, and depth of its folders, above which a search for images stops."""
PATIENCE = 10.0
"""Seconds between two log lines while a folder tree is searched."""
log = logging.getLogger("cmtl_ir")


class DataError(UserError, ValueError):
    """Images that training or testing cannot use. The message names the file or folder and the way out."""


class ImageError(DataError):
    """A file that cannot be decoded, with the reason and the remedy."""

    REPAIR = "repair or remove the file"

    def __init__(self, path: Path | str, reason: str, remedy: str = REPAIR) -> None:
        self.path, self.reason, self.remedy = Path(path), reason, remedy
        super().__init__(f"{path}: {reason}; {remedy}")


class Decoded(NamedTuple):
    """An upright image."""

    pixels: NDArray[np.uint8]  # [H, W, 3]
    orientation: int
    """EXIF orientation of the file, 1 .. 8, which is applied to the pixels; 1 means upright."""


def decode(path: Path | str, bits: int | None = None) -> NDArray[np.uint8]:
    """Return the image in a file as [H, W, 3] uint8 RGB. Raise ImageError with the name of the file. See `read`."""
    return read(path, bits).pixels


def read(path: Path | str, bits: int | None = None) -> Decoded:
    """Return the image in a file with its orientation. Raise ImageError with the name of the file.

    `bits` is the number of bits that the values of 16-bit files use. `None` means 16, and refuses a file whose values
    use less than a quarter of that range.
    """
    try:
        _check_regular(path)
        with Image.open(path) as image:
            _check_single(image, path)
            deep = has_sixteen_bits(image)
            upright = ImageOps.exif_transpose(image)
            pixels = _colour_of_sixteen(upright, path, bits) if deep else _rgb(upright, bits)
            orientation = image.getexif().get(ORIENTATION, 1)
        return Decoded(np.ascontiguousarray(pixels), orientation if orientation in range(2, 9) else 1)
    except UnusedRange as error:
        remedy = f"set `data.bits: {error.bits}` if white is {(1 << error.bits) - 1}, `data.bits: {FULL}` if it is dark"
        raise ImageError(path, str(error), f"{remedy}, or convert it to 8 bits") from None
    except BROKEN as error:
        raise ImageError(path, _reason(path, error)) from None


def _check_single(image: Image.Image, path: Path | str) -> None:
    """Raise ImageError for a TIFF of several frames. Its previews and masks do not count."""
    frames = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if frames == 1:
        return
    kinds = list[int]()
    for frame in range(frames):
        image.seek(frame)
        kinds.append(int(image.tag_v2.get(SUBFILE, 0)))  # type: ignore[attr-defined]
    image.seek(0)
    if (full := sum(not kind & AUXILIARY for kind in kinds)) > 1:
        raise ImageError(path, f"a TIFF of {full} frames, of which only one can be read", "save each as a file")


def _check_regular(path: Path | str) -> None:
    """Raise ValueError for a path that is not a regular file. Opening a named pipe would block for ever."""
    if os.path.islink(path) and not os.path.exists(path):
        raise ValueError(f"a symbolic link to {os.readlink(path)}, which does not exist")
    mode = os.stat(path).st_mode
    for is_one, words in SPECIAL.items():
        if is_one(mode):
            raise ValueError(f"{words}, not a file")


def _reason(path: Path | str, error: BaseException) -> str:
    if not isinstance(error, Image.UnidentifiedImageError):
        return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    with open(path, "rb") as file:
        if file.read(4) in (b"II*\0", b"MM\0*"):
            return "a TIFF of a kind that Pillow cannot read (colour of floating-point numbers, say): convert it"
    return "not an image"


def _rgb(image: Image.Image, bits: int | None) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        grey = from_floats(values) if image.mode == "F" else from_integers(values, bits)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise ValueError("has transparent pixels, whose colour is undefined")
    return np.asarray(image.convert("RGB"))


def _colour_of_sixteen(upright: Image.Image, path: Path | str, bits: int | None) -> NDArray[np.uint8]:
    """Return 8 bits of 16-bit colour. Pillow decodes the high byte; the low byte is read only if it is needed."""
    high = _rgb(upright, bits)
    if bits in (None, FULL) and high.max() >= 64:
        return high
    with Image.open(path) as image:
        keep_low_bytes(image)
        low = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return from_integers(high.astype(np.int32) << 8 | low, bits)


# --------------------------------------------------------------------------------------------------- folders


def image_files(source: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Return name -> file of a folder and its subfolders, of one file, or of a list of both; sorted by name.

    A name is the path below the folder, so that it stays the same when the folder is moved. In a list the name of the
    folder comes first. Hidden files and files with other extensions are ignored. Raise DataError if there is no image.
    """
    entries = [source] if isinstance(source, str | Path) else list(source)
    found: dict[str, Path] = {}
    for entry in entries:
        root = Path(os.path.expanduser(entry))
        prefix = f"{root.resolve().name}/" if len(entries) > 1 and os.path.isdir(root) else ""
        for name, path in _of_entry(root):
            name = unicodedata.normalize("NFC", prefix + name).encode("utf-8", "backslashreplace").decode()
            if name in found:
                raise DataError(f"{found[name]} and {path} would share the name {name!r}; rename one of their folders")
            found[name] = path
    if not found:
        raise DataError("a list of image folders is empty; name a folder or an image file")
    return dict(sorted(found.items()))


def _of_entry(root: Path) -> list[tuple[str, Path]]:
    if os.path.isfile(root):
        return [(root.name, root)]
    if not os.path.isdir(root):
        raise DataError(f"{root}: {_missing(root)}")
    files = [(path.relative_to(root).as_posix(), path) for path in _walk(root)]
    if not files:
        raise DataError(f"{root}: holds no image ({' '.join(sorted(EXTENSIONS))}, in it or in its subfolders)")
    return files


def _missing(root: Path) -> str:
    """Say why a path is neither a file nor a folder, with a similar name if there is one."""
    if os.path.lexists(root):
        try:
            _check_regular(root)
        except (OSError, ValueError) as error:
            return f"{error}; name a folder or an image file"
    near = [entry.name for entry in _entries(root.parent) if _is_folder(entry)] if os.path.isdir(root.parent) else []
    hint = f"; {suggestion(root.name, near)}" if near else ""
    return f"no such file or folder (looked from {Path.cwd()}){hint}"


def _walk(root: Path) -> Iterator[Path]:
    """Yield every image file below a folder, following links. Raise DataError for a folder tree without an end."""
    visited, waiting, seen, logged = set[str](), [(root, 0)], 0, time.monotonic()
    while waiting:
        folder, depth = waiting.pop()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        if depth > DEEPEST:
            raise _endless(root, f"{folder} is more than {DEEPEST} folders deep")
        below = []
        for entry in _entries(folder):
            seen += 1
            if seen > MOST_ENTRIES:
                raise _endless(root, f"it has more than {MOST_ENTRIES:,} entries")
            if time.monotonic() - logged > PATIENCE:
                logged = time.monotonic()
                log.warning("%s: still looking for images: %d entries so far, now in %s", root, seen, folder)
            if _is_folder(entry):
                if not entry.name.startswith((".", "__MACOSX")):
                    below.append(entry.name)
            elif not entry.name.startswith(".") and os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                yield folder / entry.name
        waiting += [(folder / name, depth + 1) for name in sorted(below, reverse=True)]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder. Log a warning if it cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        log.warning("skipped: %s: cannot be opened (%s)", folder, error.strerror)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _endless(root: Path, why: str) -> DataError:
    return DataError(f"{root}: searching it for images was given up, {why}; name the folder that holds the images")
