"""The Gramian of row gradients. Shapes: M rows, P parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 1 << 16  # columns of a Gramian's chunk: the fastest of 2^13 .. 2^16 for 5 and for 16 rows (measured: CPU)


def gramian(rows: Tensor) -> Tensor:
    """Return rows @ rows.T [M, M] of rows [M, P], as float64 on the CPU, in the rows' own units.

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
