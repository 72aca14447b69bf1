"""Names written next to what they name: at the ends of lines and beside points, where there is room for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from .style import legend_name

MOST = 8
"""Maximum number of names in a panel. More of them would hide the lines."""
LONGEST = 24
APART = 0.075
"""Distance of names at the ends of lines, as a share of the height of the panel."""
SIDES = ((7, 5), (-7, 5), (7, -5), (-7, -5), (0, 9), (0, -9), (10, 0), (-10, 0))
"""Places of a number relative to its point in points, in order of preference."""
MARKER = 3.0
"""Half of the width of a marker in points."""


def at_ends(axis: Any, ends: Mapping[str, tuple[float, float]], look: Mapping[str, Mapping[str, Any]]) -> bool:
    """Write names to the right of a panel, at the heights of the ends (x, y) of their lines, moved apart.

    Return whether there was room for them.
    """
    if not ends or len(ends) > MOST or max(map(len, ends)) > LONGEST:
        return False
    low, high = axis.get_ylim()
    order = sorted(ends, key=lambda label: ends[label][1])
    heights = _apart([(ends[label][1] - low) / (high - low) for label in order])
    is_last = axis is [one for one in axis.figure.axes if one.get_visible()][-1]
    needs_room = axis.get_subplotspec().is_last_col() or not is_last  # elsewhere the panel to the right is spare
    for label, height in zip(order, heights, strict=True):
        text = axis.annotate(
            legend_name(label), ends[label], xytext=(1.03, height), textcoords="axes fraction", va="center", fontsize=7,
            color=look[label]["color"], annotation_clip=False,
        )  # fmt: skip
        text.set_in_layout(needs_room)
    return True


def _apart(heights: list[float]) -> list[float]:
    """Return ascending heights with a distance of at least `APART`, around the same centre and inside the panel."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + APART) if moved else height)
    shift = sum(heights) / len(heights) - sum(moved) / len(moved)
    shift = max(shift, -moved[0]) if moved[-1] + shift <= 1 else 1 - moved[-1]
    return [height + shift for height in moved]


def beside_points(figure: Any, axis: Any, points: Mapping[str, tuple[float, float]]) -> bool:
    """Write names to the right of points, or nothing and return False where names would overlap or leave the panel."""
    texts = [
        axis.annotate(legend_name(label), at, xytext=(6, 4), textcoords="offset points", fontsize=8)
        for label, at in points.items()
    ]
    figure.draw_without_rendering()
    boxes, inside = [text.get_window_extent() for text in texts], axis.get_window_extent()
    fit = all(box.x1 <= inside.x1 and box.y1 <= inside.y1 for box in boxes)
    spots = [axis.transData.transform(at) for at in points.values()]
    clear = not any(box.contains(*spot) for box in boxes for spot in spots)
    if fit and clear and not any(one.overlaps(other) for one, other in combinations(boxes, 2)):
        return True
    for text in texts:
        text.remove()
    return False


def numbers(figure: Any, axis: Any, points: Sequence[tuple[float, float]]) -> None:
    """Write 1, 2, ... next to points, where possible on a side on which no other number and no point is."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    reach = np.full(2, MARKER * figure.dpi / 72)
    spots = np.array([axis.transData.transform(at) for at in points])
    taken = [Bbox([spot - reach, spot + reach]) for spot in spots]
    for number, at in enumerate(points, 1):
        texts = [
            axis.annotate(str(number), at, (x, y), textcoords="offset points", fontsize=6, ha="center", va="center")
            for x, y in SIDES
        ]
        boxes = [text.get_window_extent() for text in texts]
        crowding = [box.count_overlaps(taken) for box in boxes]
        best = crowding.index(min(crowding))
        taken.append(boxes[best])
        for text in texts[:best] + texts[best + 1 :]:
            text.remove()
