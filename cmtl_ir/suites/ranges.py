"""Whether a level of a degradation lies in the range that a task was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmtl_ir.strategy.degradation import Degradation
from cmtl_ir.suites.blocks import BELOW, BEYOND, INSIDE
from cmtl_ir.tasks.degradations._graded import Graded
from cmtl_ir.tasks.degradations.composition import Composition


def block_of(tested: Degradation, trained: Degradation) -> str:
    """Return inside, below (milder) or beyond (harsher) of a degradation and the one that a task was trained on.

    Both are of one class. The fields that its severities set decide; of several, the harshest does. Training levels
    count as the range from the smallest to the largest. Raise ValueError if the class has no severities.
    """
    if isinstance(tested, Composition) and isinstance(trained, Composition):
        pairs = zip(tested.degradations, trained.degradations, strict=True)
        return _harshest([block_of(*pair) for pair in pairs])
    if not isinstance(trained, Graded) or type(tested) is not type(trained):
        raise ValueError(f"{trained.called} has no severities that {tested.called} could be compared by")
    return _harshest(
        [
            block
            for field, values in trained.severities.items()
            for block in _blocks(getattr(tested, field), getattr(trained, field), values)
        ]
    )


def _harshest(blocks: Sequence[str]) -> str:
    return next((block for block in (BEYOND, BELOW) if block in blocks), INSIDE)


def _blocks(tested: Any, trained: Any, values: Sequence[Any]) -> list[str]:
    """Return the block of each number below a field. `values` are those of the five severities."""
    if isinstance(values[0], Mapping):
        keys = values[0].keys()
        inner = [(getattr(tested, key), getattr(trained, key), [value[key] for value in values]) for key in keys]
        return [block for one in inner for block in _blocks(*one)]
    (low, high), (least, most) = _span(tested), _span(trained)
    harsher_up = _span(values[-1])[1] > _span(values[0])[1]
    above, under = high > most, low < least
    if above if harsher_up else under:
        return [BEYOND]
    return [BELOW if above or under else INSIDE]


def _span(value: Any) -> tuple[float, float]:
    numbers = value if isinstance(value, Sequence) else [value]
    return min(numbers), max(numbers)
