"""Complete linkage: repeatedly merge the two groups whose most distant members are nearest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Partition = list[tuple[int, ...]]


def complete_linkage(distances: NDArray[np.float64], names: Sequence[str]) -> list[tuple[float, Partition]]:
    """Return (height, partition) for K, K - 1, ..., 1 groups from distances [K, K]. Ties go to the earlier names.

    A partition lists groups of indices. The height is the largest distance within any of its groups, so it never falls.
    """
    groups: Partition = [(i,) for i in range(len(names))]
    tree = [(0.0, list(groups))]
    height = 0.0
    while len(groups) > 1:
        pairs = [(a, b) for i, a in enumerate(groups) for b in groups[i + 1 :]]
        a, b = min(pairs, key=lambda pair: (_farthest(distances, *pair), sorted(names[i] for i in pair[0] + pair[1])))
        height = max(height, _farthest(distances, a, b))
        groups = [group for group in groups if group not in (a, b)] + [a + b]
        tree.append((height, list(groups)))
    return tree


def _farthest(distances: NDArray[np.float64], a: tuple[int, ...], b: tuple[int, ...]) -> float:
    return float(distances[np.ix_(a, b)].max())
