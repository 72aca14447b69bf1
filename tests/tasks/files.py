"""Image files for tests, written and damaged on purpose."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def pattern(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 in which every place can be told from every other."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, image: np.ndarray | None = None) -> Path:
    """A lossless file of that image, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pattern() if image is None else image).save(path)
    return path


def folder_of(root: Path, names: list[str], height: int = 40, width: int = 56) -> Path:
    """A folder with one distinct image a name."""
    for seed, name in enumerate(names):
        write(root / name, pattern(height, width, seed))
    return root


def truncate(path: Path) -> None:
    """Cut a file in half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def png16(path: Path, values: np.ndarray) -> None:
    """A 16-bit RGB PNG of values [H, W, 3] (uint16), which Pillow can read but not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff16(path: Path, values: np.ndarray) -> Path:
    """A 16-bit RGB TIFF of values [H, W, 3] (uint16), uncompressed, which Pillow can read but not write."""
    height, width, _ = values.shape
    pixels = values.astype("<u2").tobytes()
    start, depths = 16, struct.pack("<HHH", 16, 16, 16)  # the pixels follow the header and the depths
    short, long = 3, 4
    tags = [(256, short, 1, width), (257, short, 1, height), (258, short, 3, 8), (259, short, 1, 1), (262, short, 1, 2)]
    tags += [(273, long, 1, start), (277, short, 1, 3), (278, short, 1, height), (279, long, 1, len(pixels))]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    header = b"II*\0" + struct.pack("<I", start + len(pixels)) + depths + bytes(2)
    path.write_bytes(header + pixels + directory)
    return path


def tagged(path: Path, image: np.ndarray, orientation: int) -> Path:
    """A lossless file whose EXIF tag says how its pixels are to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, exif=exif)
    return path
