"""Random numbers as pure functions of integer keys (splitmix64; Steele, Lea, Flood, OOPSLA 2014).

The integers are the same on CPU and GPU, are vectorised over the batch, and need no generator object. A number depends
only on its key and its position, never on earlier draws.
Shapes: B keys, N numbers per key.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MULTIPLY_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
MULTIPLY_2 = 0x94D049BB133111EB - (1 << 64)
IN_CACHE = 1 << 16
"""Number of hashes computed at once on a CPU. Measured: 2^15 to 2^17 are equally fast, all at once is slower."""


def name_key(*parts: str | int | float) -> int:
    """Return a signed 64-bit key of names and numbers, the same in every process and on every machine."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)  # int64 shifts copy the sign: mask it away


def mix(x: Tensor) -> Tensor:
    """Apply the splitmix64 finaliser elementwise to int64. Multiplication wraps in the same way on every device."""
    x = (x ^ _shift(x, 30)).mul_(MULTIPLY_1)  # in place from here on: fresh memory costs more than the arithmetic
    x = x.bitwise_xor_(_shift(x, 27)).mul_(MULTIPLY_2)
    return x.bitwise_xor_(_shift(x, 31))


def keys_of(base: int, numbers: Tensor) -> Tensor:
    """Return the keys [B] of numbers [B] (int64) under one base key."""
    return mix(mix(numbers * GOLDEN + base) ^ base)


def substream(keys: Tensor, purpose: str | int) -> Tensor:
    """Return independent keys [B] for one purpose ("crop", "noise"), so that no two purposes share numbers."""
    return mix(keys ^ name_key(purpose))


def bits(keys: Tensor, count: int) -> Tensor:
    """Return [B, count] int64 numbers of 64 random bits each."""
    counter = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * GOLDEN
    return mix(keys[:, None] + counter)


def _unit(x: Tensor) -> Tensor:
    return x.to(torch.float32).add_(0.5).mul_(2.0**-23)  # 23 bits and a half: exact in float32, never 0 or 1


def uniform(keys: Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Return [B, *shape] float32 numbers, uniform on the open interval (0, 1)."""
    return _unit(_shift(bits(keys, math.prod(shape)), 41)).view(len(keys), *shape)


def uniform_between(keys: Tensor, low: float, high: float, shape: Sequence[int] = ()) -> Tensor:
    """Return [B, *shape] float32 numbers, uniform between low and high."""
    return low + (high - low) * uniform(keys, shape)


def normal(keys: Tensor, shape: Sequence[int] = ()) -> Tensor:
    """Return [B, *shape] float32 standard normal numbers (Box-Muller; one hash gives two numbers)."""
    count = math.prod(shape)
    half = (count + 1) // 2
    drawn = torch.empty(len(keys), 2, half, device=keys.device)
    at_once = max(1, IN_CACHE // max(half, 1)) if keys.device.type == "cpu" else max(len(keys), 1)
    for some, both in zip(keys.split(at_once), drawn.split(at_once), strict=True):
        pairs = bits(some, half)
        radius = _unit(_shift(pairs, 41)).log_().mul_(-2.0).sqrt_()
        angle = _unit(pairs.bitwise_and_(0x7FFFFF)).mul_(2.0 * math.pi)
        torch.mul(radius, angle.cos(), out=both[:, 0])
        torch.mul(radius, angle.sin_(), out=both[:, 1])
    return drawn.view(len(keys), 2 * half)[:, :count].reshape(len(keys), *shape)


def integers(keys: Tensor, low: int, high: Tensor | int, shape: Sequence[int] = ()) -> Tensor:
    """Return [B, *shape] int64 numbers, uniform on low .. high - 1. `high` may be a tensor [B] if shape is ()."""
    drawn = _shift(bits(keys, math.prod(shape)), 33).view(len(keys), *shape)
    return low + drawn % (high - low)


def choice(keys: Tensor, values: Sequence[float]) -> Tensor:
    """Return one of the values per key, [B] float32, each equally likely."""
    return torch.tensor(values, dtype=torch.float32, device=keys.device)[integers(keys, 0, len(values))]


def permuted(base: int, numbers: Tensor, size: int) -> Tensor:
    """Return the positions of `numbers` [B] (each below `size`) in a keyed permutation of 0 .. size-1.

    A four-round Feistel network on the next even number of bits is iterated until the value is below `size` (Black and
    Rogaway, CT-RSA 2002). Every value occurs once, and no table or state is kept.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    low_mask = (1 << half) - 1
    position = numbers.clone()
    pending = torch.ones_like(position, dtype=torch.bool)
    while bool(pending.any()):
        left, right = position >> half, position & low_mask
        for round_number in range(4):
            left, right = right, left ^ (keys_of(name_key(base, round_number), right) & low_mask)
        position = torch.where(pending, (left << half) | right, position)
        pending = position >= size
    return position
