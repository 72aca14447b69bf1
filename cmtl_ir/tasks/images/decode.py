"""Image files -> arrays [H, W, 3] of uint8 RGB, and the image files of a folder. What is lost is stated here.

16-bit grey and colour: the high byte is kept (Pillow offers nothing finer for colour). Grey, palette, CMYK and YCbCr
become RGB without colour management; embedded ICC profiles are ignored. EXIF orientation is applied. An alpha channel
is dropped where it is opaque everywhere; an image with transparent pixels is refused: what lies beneath is undefined.
Of an animation the first frame counts.
"""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cmtl_ir.base.errors import UserError, suggestion

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2"})
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on files that are truncated, damaged or no images."""


class DataError(UserError, ValueError):
    """Images that training or testing cannot use: names the file or folder and the way out."""


class ImageError(DataError):
    """One file that cannot be decoded."""


def decode(path: Path | str) -> NDArray[np.uint8]:
    """The image in a file: [H, W, 3] uint8 RGB. Raises ImageError naming the file."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            return np.ascontiguousarray(_rgb(upright))
    except BROKEN as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise ImageError(f"{path}: {reason}; repair or remove the file, or set `on_error: skip`") from None


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        return _high_byte(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise ValueError("has transparent pixels, whose colour is undefined")
    return np.asarray(image.convert("RGB"))


def _high_byte(image: Image.Image) -> NDArray[np.uint8]:
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(f"mode {image.mode} with values outside 0 .. 65535 is not a photograph")
    return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)


# --------------------------------------------------------------------------------------------------- folders


def image_files(source: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Name -> file of a folder (searched to the bottom), of one file, or of a list of both; sorted by name.

    A name is the path below the folder, so that it stays when the folder moves; in a list the folder's own name
    comes first. Hidden files and other extensions are passed over. Raises DataError where nothing is found.
    """
    entries = [source] if isinstance(source, str | Path) else list(source)
    found: dict[str, Path] = {}
    for entry in entries:
        root = Path(entry).expanduser()
        prefix = f"{root.resolve().name}/" if len(entries) > 1 and root.is_dir() else ""
        for name, path in _of_entry(root):
            name = unicodedata.normalize("NFC", prefix + name).encode("utf-8", "backslashreplace").decode()
            if name in found:
                raise DataError(f"{found[name]} and {path} would share the name {name!r}; rename one of their folders")
            found[name] = path
    if not found:
        raise DataError("a list of image folders is empty")
    return dict(sorted(found.items()))


def _of_entry(root: Path) -> list[tuple[str, Path]]:
    if root.is_file():
        return [(root.name, root)]
    if not root.is_dir():
        near = [path.name for path in root.parent.iterdir() if path.is_dir()] if root.parent.is_dir() else []
        hint = f"; {suggestion(root.name, near)}" if near else ""
        raise DataError(f"{root}: no such file or folder (looked from {Path.cwd()}){hint}")
    files = [(path.relative_to(root).as_posix(), path) for path in _walk(root)]
    if not files:
        raise DataError(f"{root}: holds no image ({' '.join(sorted(EXTENSIONS))}, in it or in its subfolders)")
    return files


def _walk(root: Path) -> Iterator[Path]:
    visited = set()
    for folder, below, files in os.walk(root, followlinks=True):
        if os.path.realpath(folder) in visited:
            below.clear()
            continue
        visited.add(os.path.realpath(folder))
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS:
                yield Path(folder, name)
