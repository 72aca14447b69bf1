"""The fields of a backbone, inferred from the names and shapes of the tensors in a file. Nothing is computed.

Each field is moved a little in a network without data (device "meta"). Which names and shapes follow it tells what it
counts, and the file tells which value it has.
"""

from __future__ import annotations

import typing
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.backbones._weights import Misfits, fitted, misfits, resized_keys
from cmtl_ir.backbones.building import BROKEN
from cmtl_ir.backbones.fields import LARGEST, signature_record

PASSES = 4
LONGEST = 8
"""Largest length of a list of fields that is tried."""
VOTES = 3
"""Number of values that are tried for one field."""
Place = tuple[str, tuple[int, ...]]
"""A field, and the positions in it if it is a list."""


@dataclass(frozen=True)
class Fit:
    """A backbone with fields, and how well its tensors agree with those of a file."""

    backbone: str
    fields: dict[str, Any]
    misfits: Misfits
    prefixes: tuple[str, ...]
    """Prefixes of the file's keys that were removed."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shapes of the network's tensors."""

    cost: float
    """0 if all keys and shapes agree. A tensor that is missing or unexpected counts 1, one of another shape half the
    share of its sides that differ."""


class FieldSearch:
    """Search for the fields with which one backbone has the tensors of a file."""

    def __init__(self, backbone: str, content: Mapping[str, Tensor]) -> None:
        self.backbone, self.content = backbone, content
        record = signature_record(backbones.backbone_class(backbone))
        self.kinds = {name: one.annotation for name, one in record.model_fields.items()}
        self.defaults = {name: one.get_default() for name, one in record.model_fields.items()}
        self._tried: dict[str, Fit | None] = {}

    def default(self) -> Fit | None:
        """Return the fit of the default fields. `None` if the network cannot be built from them."""
        return self.tried({key: list(v) if isinstance(v, tuple) else v for key, v in self.defaults.items()})

    def tried(self, fields: dict[str, Any]) -> Fit | None:
        """Return the fit of these fields. `None` if the constructor refuses them."""
        key = repr(sorted(fields.items()))
        if key not in self._tried:
            self._tried[key] = self._built(fields)
        return self._tried[key]

    def _built(self, fields: dict[str, Any]) -> Fit | None:
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of layers without elements, under fields that do not fit
                model = backbones.build(self.backbone, **fields)
        except (*BROKEN, NotImplementedError):
            return None
        return fit_of(self.backbone, fields, model, self.content)

    def best(self, start: Fit) -> Fit:
        """Return the best fit that is found from `start` by changing one field, or the length of lists, at a time."""
        now = start
        for _ in range(PASSES):
            before = now.cost
            now = min([now, *self._lengths(now)], key=lambda fit: fit.cost)
            for place in _places(now.fields):
                if now.cost > 0:
                    now = min([now, *self._values(now, place)], key=lambda fit: fit.cost)
            if now.cost in (0, before):
                break
        return now

    def undecided(self, fit: Fit) -> list[str]:
        """Return the fields that no tensor depends on, sorted."""
        found = {place[0] for place in _places(fit.fields)}
        for place in _places(fit.fields):
            moved = [self.tried(_with(fit.fields, place, value)) for value in self._nearby(fit.fields, place)]
            if any(one is None or one.shapes != fit.shapes for one in moved):
                found.discard(place[0])
        return sorted({*found, *(name for name in fit.fields if name not in dict(_places(fit.fields)))})

    # ------------------------------------------------------------------------------------------------------ moves

    def _lengths(self, now: Fit) -> Iterator[Fit]:
        """Fits of other lengths of all lists that have the same length now."""
        lists = {name: value for name, value in now.fields.items() if isinstance(value, list) and value}
        for length in {len(value) for value in lists.values()}:
            together = {name: value for name, value in lists.items() if len(value) == length}
            for other in range(1, LONGEST + 1):
                longer = {name: (value + value[-1:] * other)[:other] for name, value in together.items()}
                if other != length and (fit := self.tried({**now.fields, **longer})) is not None:
                    yield fit

    def _values(self, now: Fit, place: Place) -> Iterator[Fit]:
        """Fits of other values of one field: those that the file's names and shapes speak for, or all of a choice."""
        for value in self._nearby(now.fields, place):
            if (moved := self.tried(_with(now.fields, place, value))) is None:
                continue
            yield moved
            before = _at(now.fields, place)
            if isinstance(before, bool) or not isinstance(before, int | float) or moved.shapes == now.shapes:
                continue
            for voted in self._voted(now, moved, before, value):
                if (fit := self.tried(_with(now.fields, place, voted))) is not None:
                    yield fit

    def _nearby(self, fields: Mapping[str, Any], place: Place) -> list[Any]:
        value, kind = _at(fields, place), self.kinds[place[0]]
        if typing.get_origin(kind) is Literal:
            return [one for one in typing.get_args(kind) if one != value]
        if isinstance(value, bool):
            return [not value]
        if isinstance(value, int):
            return [value + 1, value * 2, *([value // 2] if value > 1 else [])] if value else [1]
        return [value * 1.5] if isinstance(value, float) and value else []

    def _voted(self, now: Fit, moved: Fit, before: float, after: float) -> list[Any]:
        """Values for which most of the names and shapes that follow the field are those of the file."""
        votes: Counter[float] = Counter()
        found = self._content_under(now)
        counts, more, wanted = _counts(now.shapes), _counts(moved.shapes), _counts(found)
        for key, number in more.items():
            if number != counts.get(key, number) and key in wanted:
                votes[before + (wanted[key] - counts[key]) * (after - before) / (number - counts[key])] += 1
        for key, shape in now.shapes.items():
            if shape and len(found.get(key, ())) == len(shape) == len(moved.shapes.get(key, ())):
                for a, b, c in zip(shape, moved.shapes[key], found[key], strict=True):
                    if a != b:
                        votes[round(before + (c - a) * (after - before) / (b - a), 4)] += 1
                        votes[round(before * (c / a) ** 0.5)] += 1  # a side that is a square, as of a window
        values = [value for value, _ in votes.most_common(VOTES)]
        if isinstance(before, int):
            return [round(value) for value in values if 0 <= value <= LARGEST]
        return [round(value, digits) for value in values if value > 0 for digits in (0, 1, 2, 3)]

    def _content_under(self, fit: Fit) -> dict[str, tuple[int, ...]]:
        strip = "".join(fit.prefixes)
        return {key.removeprefix(strip): tuple(value.shape) for key, value in self.content.items()}


def fit_of(backbone: str, fields: dict[str, Any], model: nn.Module, content: Mapping[str, Tensor]) -> Fit:
    """Return how well the tensors of a network agree with those of a file."""
    expected = model.state_dict()
    found, prefixes = fitted(content, model)
    resized = resized_keys(model, expected)
    differing = misfits(expected, found, resized)
    shapes = {key: tuple(one.shape) for key, one in expected.items()}
    others = sum(_apart(shapes[key], tuple(found[key].shape)) for key in found if key in shapes and key not in resized)
    cost = len(differing.missing) + len(differing.unexpected) + 0.5 * others
    return Fit(backbone, fields, differing, prefixes, shapes, cost)


def _apart(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of the sides that differ."""
    if len(one) != len(other):
        return 1.0
    return sum(a != b for a, b in zip(one, other, strict=True)) / max(len(one), 1)


def _places(fields: Mapping[str, Any]) -> list[Place]:
    """Fields that can be moved. Of a list: its equal numbers together, which may be tied, and then each by itself."""
    found: list[Place] = [(name, ()) for name, one in fields.items() if isinstance(one, int | float | str)]
    for name, listed in fields.items():
        if isinstance(listed, list):
            alike = [tuple(n for n, other in enumerate(listed) if other == one) for one in listed]
            single = [(number,) for number in range(len(listed))]
            found += [(name, positions) for positions in dict.fromkeys([*alike, *single])]
    return found


def _at(fields: Mapping[str, Any], place: Place) -> Any:
    name, positions = place
    return fields[name][positions[0]] if positions else fields[name]


def _with(fields: Mapping[str, Any], place: Place, value: Any) -> dict[str, Any]:
    name, positions = place
    if not positions:
        return {**fields, name: value}
    return {**fields, name: [value if number in positions else one for number, one in enumerate(fields[name])]}


def _counts(keys: Sequence[str] | Mapping[str, Any]) -> dict[str, int]:
    """Number of entries of each numbered list of modules: `encoders.3` -> 28."""
    counts: dict[str, int] = {}
    for key in keys:
        parts = key.split(".")
        for position, part in enumerate(parts):
            if part.isdecimal():
                name = ".".join(parts[:position])
                counts[name] = max(counts.get(name, 0), int(part) + 1)
    return counts
