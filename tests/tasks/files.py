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
