"""The space of a search: a range or a list of choices for any dotted path of an experiment file.

A choice may be a whole part that contains ranges. They are drawn only if the part is chosen:

    strategy.weighting: {choice: [equal, {name: art, temperature: {float: [0.05, 2.0], log: true}}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cmtl_ir.base.errors import suggestion
from cmtl_ir.base.problems import Problem

KINDS = ("float", "int", "choice")
Label = str | int | float | bool | None


class Trial(Protocol):
    """The methods of an Optuna trial that a search uses."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Return a number between `low` and `high`."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return an integer between `low` and `high`."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of `choices`."""


@dataclass(frozen=True)
class Range:
    """A range of numbers from `low` to `high`, both included."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def suggest(self, trial: Trial) -> float:
        """Return the number that the trial suggests."""
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def samples(self) -> Iterator[Any]:
        """Yield the values that are checked before the search."""
        yield from (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def count(self) -> float:
        """Return the number of possible values."""
        step = self.step or (1 if self.whole else None)
        return float("inf") if step is None else int((self.high - self.low) / step + 1e-9) + 1

    def __str__(self) -> str:
        more = ", log" if self.log else ""
        return f"{'int' if self.whole else 'float'} {self.low:g} .. {self.high:g}{more}"


@dataclass(frozen=True)
class Choice:
    """A choice among several values. A mapping among them may contain further parameters."""

    name: str
    options: Mapping[Label, Any]
    """Label that Optuna stores -> value."""
    inner: Mapping[Label, Mapping[str, Parameter]]
    """Label -> key of its mapping -> parameter."""

    def suggest(self, trial: Trial) -> Any:
        """Return the value that the trial suggests."""
        label = trial.suggest_categorical(self.name, list(self.options))
        drawn = {key: parameter.suggest(trial) for key, parameter in self.inner[label].items()}
        return {**self.options[label], **drawn} if drawn else self.options[label]

    def samples(self) -> Iterator[Any]:
        """Yield each value, first with the first samples of its inner parameters, then with each further sample."""
        for label, value in self.options.items():
            inner = {key: list(parameter.samples()) for key, parameter in self.inner[label].items()}
            first = {key: values[0] for key, values in inner.items()}
            yield {**value, **first} if first else value
            for key, values in inner.items():
                yield from ({**value, **first, key: other} for other in values[1:])

    def count(self) -> float:
        """Return the number of possible values."""
        return sum(math.prod(p.count() for p in self.inner[label].values()) for label in self.options)

    def __str__(self) -> str:
        inner = [f"{p.name}: {p}" for inside in self.inner.values() for p in inside.values()]
        return "one of " + ", ".join(map(str, self.options)) + (f" ({'; '.join(inner)})" if inner else "")


Parameter = Range | Choice


def parameter_of(name: str, given: Any, problems: list[Problem]) -> Parameter | None:
    """Return the parameter that a mapping such as `{float: [low, high], log: true}` describes.

    Mistakes are added to `problems`. `None` if the mapping describes no valid parameter.
    """
    kind = kind_of(given)
    if kind is None:
        problems.append(
            Problem(
                name, f"expected {{float: [low, high]}}, {{int: [low, high]}} or {{choice: [...]}}, found {given!r}"
            )
        )
        return None
    known = [kind] if kind == "choice" else [kind, "log", "step"]
    for key in set(given) - set(known):
        problems.append(Problem(f"{name}.{key}", f"unknown key; {suggestion(str(key), known)}"))
    return _choice(name, given, problems) if kind == "choice" else _range(name, kind, given, problems)


def kind_of(given: Any) -> str | None:
    """Return float, int or choice if a mapping describes a parameter. `None` for any other value."""
    kinds = [kind for kind in KINDS if isinstance(given, Mapping) and isinstance(given.get(kind), list)]
    return kinds[0] if len(kinds) == 1 else None


def _range(name: str, kind: str, given: Mapping[str, Any], problems: list[Problem]) -> Range | None:
    ends, log, step = given[kind], given.get("log", False), given.get("step")
    before = len(problems)
    if not isinstance(log, bool):
        problems.append(Problem(f"{name}.log", f"expected true or false, found {log!r}"))
    if step is not None and not _is_step(step, kind):
        expected = "a whole number above 0" if kind == "int" else "a number above 0"
        problems.append(Problem(f"{name}.step", f"expected {expected}, found {step!r}"))
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(ends) != 2 or len(numbers) != 2 or not ends[0] <= ends[1]:
        problems.append(Problem(name, f"{kind}: expected [low, high] with low <= high, found {ends!r}"))
    elif not all(math.isfinite(end) for end in ends):
        problems.append(Problem(name, f"{kind}: expected finite numbers, found {ends!r}"))
    elif kind == "int" and any(end != int(end) or abs(end) >= 2**63 for end in ends):
        problems.append(Problem(name, f"int: expected whole numbers, found {ends!r}"))
    elif log and (ends[0] <= 0 or step is not None):
        problems.append(Problem(name, "log: needs low > 0 and no step"))
    elif len(problems) == before:
        return Range(name, ends[0], ends[1], log, step, kind == "int")
    return None


def _is_step(step: Any, kind: str) -> bool:
    number = isinstance(step, int | float) and not isinstance(step, bool) and 0 < step < math.inf
    return number and (kind != "int" or step == int(step))


def _choice(name: str, given: Mapping[str, Any], problems: list[Problem]) -> Choice | None:
    options: dict[Label, Any] = {}
    inner: dict[Label, dict[str, Parameter]] = {}
    for place, value in enumerate(given["choice"], 1):
        label = _label(value, options)
        inside = label if isinstance(value, Mapping) and label == value.get("name") else place
        nested = {k: v for k, v in value.items() if kind_of(v)} if isinstance(value, Mapping) else {}
        made = {k: parameter_of(f"{name}[{inside}].{k}", v, problems) for k, v in nested.items()}
        if label in options:
            problems.append(Problem(name, f"choice: {value!r} is given twice"))
        options[label] = {k: v for k, v in value.items() if k not in nested} if nested else value
        inner[label] = {k: parameter for k, parameter in made.items() if parameter is not None}
    if not options:
        problems.append(Problem(name, "choice: expected a list with at least one value"))
        return None
    return Choice(name, options, inner)


def _label(value: Any, taken: Mapping[Label, Any]) -> Label:
    """Return the label under which Optuna stores a choice.

    It is the value itself if plain, the name of a part, or the JSON text of anything else.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    name = value.get("name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) and name not in taken else json.dumps(value, sort_keys=True)


def assigned(raw: Any, path: Sequence[str], value: Any) -> Any:
    """Return `raw` with a value assigned at a path. On the way, `art` becomes `{name: art}` and `None` a mapping."""
    if not path:
        return value
    here = {"name": raw} if isinstance(raw, str) else dict(raw or {})
    return {**here, path[0]: assigned(here.get(path[0]), path[1:], value)}
