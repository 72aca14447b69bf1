"""Images of 16 bits and of floating-point numbers as 8 bits. Files that leave most of their range unused are refused.

A 16-bit file does not say where its white is. Camera raw and converted TIFF often use 12 of the 16 bits; their high
byte is nearly black, and a comparison of two nearly black images scores 44 dB or more.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FULL = 16
DEPTHS = (8, 10, 12, 14)
"""Bits that files of 16 bits are known to use in place of all."""
BYTE_ORDERS = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""Byte order in the name of a Pillow raw mode -> the other one, under which the high byte is the low one."""


class UnusedRange(ValueError):
    """A 16-bit image that leaves so much of its range unused that it may be meant on another scale."""

    def __init__(self, largest: int) -> None:
        self.bits = next(depth for depth in DEPTHS if largest < 1 << depth)
        super().__init__(
            f"a 16-bit image whose largest value is {largest}, as if it had {self.bits} bits: it would be nearly black"
        )


def from_integers(values: NDArray[np.integer], bits: int | None) -> NDArray[np.uint8]:
    """Return the highest 8 of `bits` bits; `None` means 16. Raise UnusedRange if it is `None` and 14 bits suffice."""
    smallest, largest = int(values.min()), int(values.max())
    if smallest < 0 or largest > 0xFFFF:
        raise ValueError(f"has values {smallest} .. {largest}, where an image has 0 .. 65535")
    if bits is None and 0 < largest < 1 << DEPTHS[-1]:
        raise UnusedRange(largest)
    depth = FULL if bits is None else bits
    if largest >= 1 << depth:
        raise ValueError(f"has values up to {largest}, above the {(1 << depth) - 1} of `data.bits: {depth}`")
    return (values >> depth - 8).astype(np.uint8)


def from_floats(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return floating-point numbers in [0, 1] rounded to 8 bits; no gamma is applied."""
    smallest, largest = float(values.min()), float(values.max())
    if not (smallest >= 0 and largest <= 1):
        raise ValueError(f"has floating-point values {smallest:g} .. {largest:g}, where black is 0 and white is 1")
    return (values * 255).round().astype(np.uint8)


def has_sixteen_bits(image: Image.Image) -> bool:
    """Whether an opened file holds colour of 16 bits, of which Pillow keeps the high byte; of grey it keeps both."""
    return not image.mode.startswith("I") and any(
        order in _raw_mode(tile) for tile in _tiles(image) for order in BYTE_ORDERS
    )


def keep_low_bytes(image: Image.Image) -> None:
    """Make an opened file of 16-bit colour decode to its low bytes, by reading it in the other byte order."""
    swapped = []
    for tile in _tiles(image):
        mode = _raw_mode(tile)
        kind, _, order = mode.partition(";")
        if kind == "LA":
            raise ValueError("grey of 16 bits with an alpha channel, nearly black: convert it to 8 bits")
        other = f"{kind};{BYTE_ORDERS[order]}"
        arguments = other if isinstance(tile[3], str) else (other, *tile[3][1:])
        swapped.append(tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments))
    image.tile = swapped  # type: ignore[attr-defined]


def _tiles(image: Image.Image) -> list:
    return list(getattr(image, "tile", []))


def _raw_mode(tile: tuple) -> str:
    arguments = tile[3]
    if isinstance(arguments, tuple) and arguments:
        arguments = arguments[0]
    return arguments if isinstance(arguments, str) else ""
