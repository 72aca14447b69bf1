"""Memory-mapped decoded images, from which crops and whole images are read without decoding anything twice.

Legend: N images (or pairs), B crops of P x P pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmtl_ir.tasks.images.crops import copy_crop
from cmtl_ir.tasks.images.decode import image_files
from cmtl_ir.tasks.images.pack import OnError, Pack, open_pack

Pixels = NDArray[np.uint8]


def content_digest(*parts: str) -> str:
    """Return one hash of several texts."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Images by number 0 .. N-1, sorted by name. A store may hold only some images of a pack."""

    pack: Pack
    places: tuple[int, ...]
    """Index of each image in the pack."""
    copy: Tensor | None = None
    """The bytes of the pack on a GPU, where crops are then cut. `None`: they are not kept there."""

    @classmethod
    def open(
        cls,
        source: str | Path | Sequence[str | Path],
        cache: Path | None = None,
        on_error: OnError = "stop",
        bits: int | None = None,
    ) -> ImageStore:
        """Open the images of a folder, of a file, or of a list of both. They are decoded at their first use."""
        entries = [source] if isinstance(source, str | Path) else source
        key = "\0".join(os.path.abspath(os.path.expanduser(entry)) for entry in entries)
        return cls.of_files(key, image_files(source), cache, on_error, bits)

    @classmethod
    def of_files(
        cls,
        key: str,
        files: Mapping[str, Path],
        cache: Path | None = None,
        on_error: OnError = "stop",
        bits: int | None = None,
    ) -> ImageStore:
        """Open the images of a mapping name -> file, which `key` names in the cache. See `open_pack`."""
        pack = open_pack(key, files, cache, on_error, bits)
        return cls(pack, tuple(range(len(pack.names))))

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """File names below the folder of the source."""
        return tuple(self.pack.names[place] for place in self.places)

    @property
    def clean_names(self) -> tuple[str, ...]:
        """Names of the clean images, which are all images of this store."""
        return self.names

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """For each image, the first name of an image with the same pixels. A split must not separate a group."""
        first: dict[str, str] = {}
        for name, content in zip(self.names, self.contents, strict=True):
            first[content] = min(name, first.get(content, name))
        return tuple(first[content] for content in self.contents)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """Hash of the size and pixels of each image."""
        return tuple(self.pack.digests[place] for place in self.places)

    @cached_property
    def orientations(self) -> tuple[int, ...]:
        """EXIF orientation of each file, 1 .. 8."""
        return tuple(self.pack.orientations[place] for place in self.places)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:  # [N, 2]
        """Height and width of each image."""
        return self.pack.sizes[list(self.places)]

    @cached_property
    def digest(self) -> str:
        """Hash of names and pixels, which does not depend on where the files are stored."""
        return content_digest(*(part for i in self.places for part in (self.pack.names[i], self.pack.digests[i])))

    def choose(self, numbers: Sequence[int]) -> ImageStore:
        """Return a store of some of these images, in the given order."""
        return replace(self, places=tuple(self.places[number] for number in numbers))

    def image(self, number: int) -> Pixels:  # [H, W, 3]
        """Return a read-only view of one image."""
        place = self.places[number]
        (height, width), start = self.pack.sizes[place].tolist(), self.pack.offsets[place]
        self.pack.mapped.read(height * width * 3)
        return self.pack.pixels[start : start + height * width * 3].reshape(height, width, 3)

    @property
    def flat(self) -> Tensor:
        """The bytes that crops are cut from: on a GPU if they are kept there, else mapped from the file."""
        return self.pack.flat if self.copy is None else self.copy

    def crops(self, numbers: Tensor, corners: Tensor, flips: Tensor, out: Tensor) -> None:
        """Fill out [B, 3, P, P] (uint8) with flipped crops of images [B] whose corners (y, x) are [B, 2]."""
        for slot, number, (top, left), flip in zip(
            out, numbers.tolist(), corners.tolist(), flips.tolist(), strict=True
        ):
            place = self.places[number]
            row = self._widths[place] * 3
            if self.copy is None:
                self.pack.mapped.read(slot.shape[-1] * row)
            copy_crop(self.flat, self.pack.offsets[place] + top * row + left * 3, row, flip, slot)

    @cached_property
    def _widths(self) -> list[int]:
        return self.pack.sizes[:, 1].tolist()


@dataclass(frozen=True, eq=False)
class PairStore:
    """N aligned pairs of a degraded and a clean image. Several degraded images may share a clean image."""

    degraded: ImageStore
    """N images, in the order of the pairs."""
    clean: ImageStore
    """N images, in the order of the pairs."""
    sizes: NDArray[np.int64]  # [N, 2]
    """Height and width that both images of a pair share."""

    def __len__(self) -> int:
        return len(self.degraded)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the degraded images."""
        return self.degraded.names

    @property
    def clean_names(self) -> tuple[str, ...]:
        """Names of the clean images, in the order of the pairs."""
        return self.clean.names

    @property
    def groups(self) -> tuple[str, ...]:
        """For each pair, the first name of a clean image with the same pixels. A split must not separate a group."""
        return self.clean.groups

    @cached_property
    def digest(self) -> str:
        """Hash of the names and pixels of both sides and of their matching."""
        return content_digest("pairs", self.degraded.digest, self.clean.digest, str(self.sizes.tolist()))

    def choose(self, numbers: Sequence[int]) -> PairStore:
        """Return a store of some of these pairs, in the given order."""
        return PairStore(self.degraded.choose(numbers), self.clean.choose(numbers), self.sizes[list(numbers)])

    def pair(self, number: int) -> tuple[Pixels, Pixels]:  # [H, W, 3] twice
        """Return the degraded and the clean image of one pair; the larger one is cut about its centre."""
        height, width = self.sizes[number].tolist()
        found = []
        for side in (self.degraded, self.clean):
            top, left = ((side.sizes[number] - self.sizes[number]) // 2).tolist()
            found.append(side.image(number)[top : top + height, left : left + width])
        return found[0], found[1]

    def crops(self, numbers: Tensor, corners: Tensor, flips: Tensor, degraded: Tensor, clean: Tensor) -> None:
        """Fill degraded and clean [B, 3, P, P] (uint8) with crops at the same places and with the same flips."""
        chosen = numbers.numpy()
        for side, out in ((self.degraded, degraded), (self.clean, clean)):
            margins = (side.sizes[chosen] - self.sizes[chosen]) // 2
            side.crops(numbers, corners + torch.from_numpy(margins), flips, out)
