"""Settings to be tried, fixed in advance: the default first, then the same points for every strategy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cmtl_ir.base.keyed import name_key
from cmtl_ir.base.problems import Problem
from cmtl_ir.search.space import Choice, Parameter, Range, parameter_of

PRIMES = (2, 3, 5, 7, 11, 13)
"""Bases of the Halton sequence, one per setting."""


@dataclass(frozen=True)
class Dimension:
    """One tuned setting of a strategy."""

    name: str
    """Path below the strategy, as in `training.optimizer.lr`."""
    spec: dict[str, Any]
    """Range in the form of a search space."""
    parameter: Parameter
    default: Any
    """Value in the experiment."""

    def all(self) -> list[Any] | None:
        """Return all values, the default first, as Optuna stores them. `None` if they are not finite in number."""
        if isinstance(self.parameter, Choice):
            values = list(self.parameter.options)
        elif math.isinf(self.parameter.count()):
            return None
        else:
            values = [self._step(number) for number in range(int(self.parameter.count()))]
        first = self.stored_default()
        return [first, *(value for value in values if value != first)]

    def stored_default(self) -> Any:
        """Return the default as Optuna stores it."""
        if isinstance(self.parameter, Range):
            return self.default
        return next(label for label, value in self.parameter.options.items() if value == self.default)

    def at(self, share: float) -> Any:
        """Return the value at a share in [0, 1) of the range, of a logarithmic one on that scale."""
        if (values := self.all()) is not None:
            return values[int(share * len(values))]
        one = self.parameter
        assert isinstance(one, Range)
        if one.log:
            return math.exp(math.log(one.low) + share * (math.log(one.high) - math.log(one.low)))
        return one.low + share * (one.high - one.low)

    def _step(self, number: int) -> Any:
        one = self.parameter
        assert isinstance(one, Range)
        value = one.low + number * (one.step or 1)
        return int(value) if one.whole else value


def dimensions(
    given: Mapping[str, Any], values: Mapping[str, Any], above: str, label: str, problems: list[Problem]
) -> list[Dimension]:
    """Return the settings that ranges by path describe. Mistakes are added to `problems`.

    `values`: training settings and parts of the strategy `label`. `above`: path of the ranges in the file.
    """
    made = (_dimension(path, spec, values, f"{above}.{path}", label, problems) for path, spec in given.items())
    return [one for one in made if one is not None]


def settings(space: Sequence[Dimension]) -> int | None:
    """Return the number of different settings. `None` if it is not finite."""
    known = [one.all() for one in space]
    return math.prod(len(values) for values in known if values is not None) if None not in known else None


def points(shared: Sequence[Dimension], own: Sequence[Dimension], count: int, seed: int) -> list[dict[str, Any]]:
    """Return the fixed values of the first `count` trials: the default, then points of the shared settings alone.

    A finite number of settings is tried in order, and from its start again. Otherwise the points are those of a Halton
    sequence (Halton, Numer. Math. 1960), shifted by a number that depends on `seed`.
    """
    grid = [one.all() for one in shared]
    default = {one.name: one.stored_default() for one in (*shared, *own)}
    names = [one.name for one in shared]
    if None not in grid:
        whole = [dict(zip(names, values, strict=True)) for values in itertools.product(*(v for v in grid if v))]
        rest = [whole[place % len(whole)] for place in range(1, count)]
    else:
        rest = [_halton(shared, place, seed) for place in range(1, count)]
    return [default, *rest]


def _halton(shared: Sequence[Dimension], place: int, seed: int) -> dict[str, Any]:
    found = {}
    for number, one in enumerate(shared):
        shift = (name_key(seed, "shift", number) & 0xFFFFFFFF) / 2**32
        found[one.name] = one.at((radical_inverse(place, PRIMES[number % len(PRIMES)]) + shift) % 1.0)
    return found


def radical_inverse(number: int, base: int) -> float:
    """Return the digits of `number` in a base, mirrored at the point: 6 = 110 in base 2 gives .011 = 3/8."""
    found, unit = 0.0, 1.0 / base
    while number:
        number, digit = divmod(number, base)
        found, unit = found + digit * unit, unit / base
    return found


def _dimension(
    path: str, spec: Any, values: Mapping[str, Any], where: str, label: str, problems: list[Problem]
) -> Dimension | None:
    default: Any = values
    for key in path.split("."):
        if not isinstance(default, Mapping) or key not in default:
            problems.append(Problem(where, f"the strategy {label} has no setting {path}"))
            return None
        default = default[key]
    spec = _multiples(spec, default, where, label, problems)
    before = len(problems)
    parameter = parameter_of(where, spec, problems) if spec is not None else None
    if parameter is None or len(problems) > before:
        return None
    if isinstance(parameter, Choice):
        if any(isinstance(value, Mapping) for value in parameter.options.values()):
            problems.append(Problem(where, "choice: expected plain values; two parts are two strategies"))
            return None
        fits = default in parameter.options.values()
    else:
        fits = isinstance(default, int | float) and parameter.low <= default <= parameter.high
    if not fits:
        said = f"the default of {label}, {default!r}, is not in it; the first trial of every strategy is its default"
        problems.append(Problem(where, said))
        return None
    return Dimension(path, spec, parameter, default)


def _multiples(spec: Any, default: Any, where: str, label: str, problems: list[Problem]) -> Any:
    """Return `{times: [...]}` as a choice of multiples of the default, and any other range as it is."""
    if not isinstance(spec, Mapping) or "times" not in spec:
        return spec
    factors = spec["times"]
    numbers = isinstance(factors, list) and all(isinstance(f, int | float) and f > 0 for f in factors) and factors
    if not numbers or len(spec) > 1 or 1 not in factors:
        problems.append(Problem(where, f"times: expected a list of factors above 0 that has 1, found {dict(spec)!r}"))
        return None
    if not isinstance(default, int | float) or isinstance(default, bool):
        problems.append(Problem(where, f"times: the default of {label}, {default!r}, is not a number"))
        return None
    return {"choice": [default if f == 1 else float(f"{default * f:.12g}") for f in factors]}
