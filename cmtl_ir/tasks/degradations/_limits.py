"""The types of the fields of degradations: one number, a range or a list of levels, each within stated limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def within(low: float, high: float, *, above: bool = False) -> AfterValidator:
    """Return a validator that refuses numbers outside low .. high. If `above` is true, low itself is refused too."""
    limits = f"above {low:g}, up to {high:g}" if above else f"in {low:g} .. {high:g}"

    def check(value: Any) -> Any:
        for one in value if isinstance(value, Sequence) else [value]:
            if not (low < one if above else low <= one) or one > high:
                raise ValueError(f"expected numbers {limits}, found {one:g}")
        return value

    return AfterValidator(check)


def number(given: Any) -> Any:
    """Refuse `true` and `false`, which Pydantic would read as 1 and 0."""
    if isinstance(given, bool):
        raise ValueError(f"expected a number, found {given!r}")
    return given


def _several(write: Callable[[Any], list[Any]], expected: str) -> Callable[[Any], Any]:
    """Return a validator that also accepts one number, in place of the list that `write` makes of it."""

    def check(given: Any) -> Any:
        if isinstance(given, bool) or not isinstance(given, int | float | str | list | tuple):
            raise ValueError(f"expected {expected}, found {given!r}")
        return [number(one) for one in (given if isinstance(given, list | tuple) else write(given))]

    return check


def _two(given: Any) -> Any:
    if len(given) != 2:
        raise ValueError(f"a range is [low, high], found {given}")
    return given


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"a range is [low, high]; {list(limits)} is not in order")
    return limits


def _some(levels: tuple[float, ...]) -> tuple[float, ...]:
    if not levels:
        raise ValueError("the list is empty; name one level or more, as in [25]")
    labels: dict[str, float] = {}
    for one in levels:
        if labels.setdefault(f"{one:g}", one) != one:
            raise ValueError(f"{labels[f'{one:g}']!r} and {one!r} would share the label {one:g} in tables")
    return levels


_RANGE = BeforeValidator(_several(lambda one: [one, one], "[low, high] or one number"))
_LIST = BeforeValidator(_several(lambda one: [one], "a list of numbers or one number"))

Number = Annotated[float, BeforeValidator(number)]
"""One number."""
Range = Annotated[tuple[float, float], AfterValidator(_ordered), BeforeValidator(_two), _RANGE]
"""[low, high], or one number for both, to draw from uniformly."""
Whole = Annotated[tuple[int, int], AfterValidator(_ordered), BeforeValidator(_two), _RANGE]
"""[low, high], or one number for both: whole numbers to draw from uniformly, including both ends."""
Levels = Annotated[tuple[float, ...], AfterValidator(_some), _LIST]
"""A list of numbers, or one number: equally likely in training, and one variant each in testing."""
WholeLevels = Annotated[tuple[int, ...], AfterValidator(_some), _LIST]
"""A list of whole numbers, or one: equally likely in training, and one variant each in testing."""

Share = Annotated[Range, within(0, 1)]
"""A range of shares or brightnesses, in 0 .. 1."""
