"""Weights files that contain the SHA-256 of their own content, so that a single flipped bit is detected on reading."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cmtl_ir.base.trees import safetensors_pieces

KEYS = ("sha256", "verified_by")
"""Entries of the header's metadata. There are two, so that no single flipped bit turns off the check of a file."""
_EMPTY = b'"sha256": "' + b"0" * 64 + b'"'
_DIGEST = re.compile(rb'"sha256": "([0-9a-f]{64})"')
_LARGEST_HEADER = 100_000_000
"""Largest header in bytes, by the safetensors format."""
_CHUNK = 1 << 22


def sealed_pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[Any]:
    """Yield a safetensors file piece by piece, with the SHA-256 of the whole file in its metadata.

    The digest is that of the file with 64 zeros in the digest's place.
    """
    given = {**metadata, "sha256": "0" * 64, "verified_by": "sha256"}
    digest = hashlib.sha256()
    for piece in safetensors_pieces(tensors, given):
        digest.update(piece)
    pieces = safetensors_pieces(tensors, given)
    yield next(pieces).replace(_EMPTY, _EMPTY.replace(b"0" * 64, digest.hexdigest().encode()), 1)
    yield from pieces


def is_intact(path: Path) -> bool:
    """Return whether a weights file is exactly what was written.

    A file of an earlier version has no digest and counts as intact. Raises OSError if the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > _LARGEST_HEADER:
            return False
        header = file.read(length)
        found = _DIGEST.search(header)
        if found is None:
            return not any(f'"{key}"'.encode() in header for key in KEYS)
        digest = hashlib.sha256(start + header[: found.start()] + _EMPTY + header[found.end() :])
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest().encode() == found[1]
