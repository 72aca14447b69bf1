"""Input families: matrices J [K, P] by shape, rank and special position, each with the names of its rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

NAMES = ("haze", "rain", "noise", "memory:rain", "blur", "jpeg", "dark", "snow", "review:haze", *"abcdefg")
SHAPES = ((1, 1), (1, 9), (2, 1), (2, 6), (3, 2), (3, 30), (5, 5), (5, 40), (9, 11), (16, 60))
SCALES = (1e-20, 1e-9, 1e-3, 3.0, 1e10, 1e20)


def normal(rows: int, columns: int, seed: int = 0) -> Tensor:
    """[K, P] float64, standard normal, from a generator of its own."""
    generator = torch.Generator().manual_seed(1000 * rows + 10 * columns + seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def of_rank(rows: int, columns: int, rank: int, seed: int = 0) -> Tensor:
    """[K, P] of that rank."""
    return normal(rows, rank, seed) @ normal(rank, columns, seed + 1)


def stationary(rows: int, columns: int, seed: int = 0) -> Tensor:
    """[K, P] of which a positive combination vanishes: no direction helps every row."""
    free = normal(rows - 1, columns, seed)
    weights = 0.2 + normal(rows - 1, 1, seed + 1).abs()
    return torch.cat([free, -(weights * free).sum(dim=0, keepdim=True)])


def conflict_free(rows: int, columns: int, seed: int = 0) -> Tensor:
    """[K, P] with no negative product."""
    return normal(rows, columns, seed).abs()


def uneven(rows: int, columns: int, decades: int = 2) -> Tensor:
    """[K, P] with row norms over so many powers of ten."""
    half = decades / 2
    return normal(rows, columns) * 10.0 ** torch.linspace(-half, half, rows, dtype=torch.float64)[:, None]


def with_zero_row(rows: int, columns: int, seed: int = 0) -> Tensor:
    """[K, P] whose second row is zero."""
    matrix = normal(rows, columns, seed)
    matrix[1] = 0.0
    return matrix


def opposite(rows: int, columns: int, seed: int = 0) -> Tensor:
    """[K, P]: every second row is minus the one before."""
    matrix = normal(rows, columns, seed)
    matrix[1::2] = -matrix[0 : rows - 1 : 2]
    return matrix


def equal_rows(rows: int, columns: int) -> Tensor:
    """[K, P] of one row, K times."""
    return normal(1, columns).expand(rows, -1).clone()


def nearly_equal_rows(rows: int, columns: int) -> Tensor:
    """[K, P]: one row, K times, up to 1e-9."""
    return equal_rows(rows, columns) + 1e-9 * normal(rows, columns, 3)


def orthogonal(rows: int, columns: int) -> Tensor:
    """[K, P] with orthogonal rows of lengths 1, 2, 3 ..."""
    basis = torch.linalg.qr(normal(columns, rows))[0].T
    return basis * torch.arange(1.0, rows + 1, dtype=torch.float64)[:, None]


def zeros(rows: int, columns: int) -> Tensor:
    """[K, P] of zeros."""
    return torch.zeros(rows, columns, dtype=torch.float64)


def named(make: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...]) -> dict[str, Tensor]:
    """id -> matrix, for pytest."""
    return {f"{make.__name__}{'x'.join(map(str, shape))}": make(*shape) for shape in shapes}


SEVERAL = tuple(shape for shape in SHAPES if shape[0] > 1)
FULL_RANK = named(normal, tuple(shape for shape in SHAPES if shape[0] <= shape[1])) | named(uneven, ((3, 30), (5, 40)))
DEFICIENT = (
    named(normal, ((2, 1), (3, 2)))
    | named(of_rank, ((5, 40, 3), (9, 20, 4), (16, 60, 7)))
    | named(with_zero_row, ((2, 6), (5, 40)))
    | named(equal_rows, SEVERAL)
    | named(nearly_equal_rows, ((2, 6), (5, 40)))
)
STATIONARY = named(stationary, ((2, 6), (3, 30), (5, 40), (9, 11))) | named(opposite, ((2, 6), (4, 12), (5, 40)))
EASY = named(conflict_free, SEVERAL) | named(orthogonal, ((2, 6), (5, 40)))
ZERO = named(zeros, SHAPES)
NON_ZERO = FULL_RANK | DEFICIENT | STATIONARY | EASY
UNEVEN = named(uneven, ((2, 6, 12), (3, 30, 8), (5, 40, 8), (9, 11, 5)))  # Gramians of condition 1e10 to 1e24
EVERYTHING = NON_ZERO | ZERO | UNEVEN
