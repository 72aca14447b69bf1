"""A file of pixels, mapped read-only, of which a process keeps little resident however much of it is read."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RESIDENT = 1 << 29
"""Number of bytes that are read before their pages are released: half a gigabyte, which covers many steps."""


class MappedPixels:
    """The bytes of a file. Pages that were read stay in the file cache of the system, which frees them when it must.

    A mapped page counts as resident memory of the process until it is released, so a long run over a large store
    would seem to need as much memory as the store has bytes, and limits such as those of a batch system would end it.
    """

    def __init__(self, file: Path) -> None:
        """Raise OSError or ValueError if the file is missing or empty."""
        with file.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.pixels: NDArray[np.uint8] = np.frombuffer(self._map, dtype=np.uint8)
        with warnings.catch_warnings():  # torch has no read-only tensors
            warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable")
            self.flat: Tensor = torch.from_numpy(self.pixels)
        self._read = 0

    def read(self, size: int) -> None:
        """Count `size` bytes that are about to be read, and release all pages after every `RESIDENT` of them.

        Reading a released page again costs a fault of the page cache, not a read of the disk.
        """
        self._read += size
        if self._read > RESIDENT:
            self._read = 0
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which trims mapped pages itself
                self._map.madvise(mmap.MADV_DONTNEED)
