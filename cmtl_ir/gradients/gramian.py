"""The Gramian of row gradients. Shapes: M rows, P parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 1 << 16  # columns per chunk of a Gramian: the fastest of 2^13 .. 2^16 for 5 and for 16 rows (measured: CPU)
LARGE = 1 << 18  # number of columns from which blocks of float32 are faster
BLOCK = 512  # number of columns summed in float32
SMALLEST_SQUARE = 1e-20  # squared norm of a row below which products of its float32 entries may vanish
INDEPENDENT = 1e-3  # smallest eigenvalue of the cosines from which float32 blocks are exact enough


def gramian(rows: Tensor) -> Tensor:
    """Return rows @ rows.T [M, M] of rows [M, P], as float64 on the CPU, in the rows' own units.

    `LARGE` float32 rows on the CPU are multiplied in float32 blocks of `BLOCK` columns, whose products are summed in
    float64. The error is below 1e-8 of the product of two rows' norms (measured: 1e-9 to 4e-9), less than the rounding
    of the rows themselves. Nearly dependent rows, whose small eigenvalues it could change, and rows whose products
    leave the range of float32 are multiplied in float64, as are all other rows.
    """
    if rows.dtype == torch.float32 and rows.device.type == "cpu" and rows.shape[1] >= LARGE:
        found = in_float32_blocks(rows)
        if _suffices(found):
            return found
    return in_float64(rows)


def in_float32_blocks(rows: Tensor) -> Tensor:
    """Return the Gramian [M, M] of float32 rows [M, P], summed in float32 within blocks and in float64 over blocks."""
    whole = rows.shape[1] // BLOCK * BLOCK
    total = rows[:, whole:].double() @ rows[:, whole:].double().T
    for chunk in rows[:, :whole].split(CHUNK, dim=1):
        blocks = chunk.unflatten(1, (-1, BLOCK)).transpose(0, 1)  # [blocks, M, BLOCK]
        total += torch.bmm(blocks, blocks.transpose(1, 2)).sum(0, dtype=torch.float64)
    return total


def _suffices(found: Tensor) -> bool:
    """Return whether a Gramian of float32 blocks is accurate enough to replace one of float64."""
    squares = found.diagonal()
    if not bool((torch.isfinite(squares) & (squares >= SMALLEST_SQUARE)).all()):
        return False
    norms = squares.sqrt()
    return float(torch.linalg.eigvalsh(found / norms / norms[:, None])[0]) >= INDEPENDENT


def in_float64(rows: Tensor) -> Tensor:
    """Return the Gramian [M, M] of rows [M, P], multiplied and summed in float64.

    Chunks of columns are widened to float64 and accumulated there. Products of float32 numbers then neither overflow
    nor vanish (1e-90 .. 1e77), so only float64 rows are divided by a power of two first.
    """
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    largest = float(rows.abs().max()) if rows.dtype == torch.float64 else 1.0
    scale = 2.0 ** round(math.log2(largest)) if 0 < largest < math.inf else 1.0
    space = torch.empty(len(rows), CHUNK, dtype=torch.float64, device=rows.device)
    for chunk in rows.split(CHUNK, dim=1):
        wide = space[:, : chunk.shape[1]].copy_(chunk)
        if scale != 1.0:
            wide /= scale
        total.addmm_(wide, wide.T)
    return (total * scale * scale).cpu()
