"""Convert 16-bit and floating-point images to 8 bits. Files that leave most of their range unused are refused.

A 16-bit file does not say which value is white. Camera raw and converted TIFF often use 12 of the 16 bits; their high
byte is nearly black, and a comparison of two nearly black images scores 44 dB or more.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FULL = 16
DEPTHS = (8, 10, 12, 14)
"""Numbers of bits that 16-bit files are known to use instead of 16."""
BYTE_ORDERS = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""Byte order in the name of a Pillow raw mode -> the opposite order, which exchanges high and low bytes."""


class UnusedRange(ValueError):
    """A 16-bit image that uses so little of its range that another scale may be meant."""

    def __init__(self, largest: int) -> None:
        self.bits = next(depth for depth in DEPTHS if largest < 1 << depth)
        super().__init__(
            f"a 16-bit image whose largest value is {largest}, as if it had {self.bits} bits: it would be nearly black"
        )


def from_integers(values: NDArray[np.integer], bits: int | None) -> NDArray[np.uint8]:
    """Return the highest 8 of `bits` bits. `None` means 16, and raises UnusedRange if the values fit into 14 bits."""
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
    """Round floating-point numbers in [0, 1] to 8 bits, without gamma. Raise ValueError for other values."""
    smallest, largest = float(values.min()), float(values.max())
    if not (smallest >= 0 and largest <= 1):
        raise ValueError(f"has floating-point values {smallest:g} .. {largest:g}, where black is 0 and white is 1")
    return (values * 255).round().astype(np.uint8)


def has_sixteen_bits(image: Image.Image) -> bool:
    """Whether an opened file has 16-bit colour, of which Pillow keeps the high byte. Of grey it keeps both bytes."""
    return not image.mode.startswith("I") and any(
        order in _raw_mode(tile) for tile in _tiles(image) for order in BYTE_ORDERS
    )


def keep_low_bytes(image: Image.Image) -> None:
    """Make an opened file of 16-bit colour decode to its low bytes, by reading it in the opposite byte order."""
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
