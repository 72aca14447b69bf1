"""What a network returns for a batch, whatever its form: a tensor, a list of tensors, or a record of them.

A record has `tensors()`, its tensors in a fixed order, and `part(start, stop)`, the same record for some samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import Tensor


def tensors_of(output: Any) -> list[Tensor]:
    """Return the tensors of an output, each [N, ...], in a fixed order."""
    if isinstance(output, Tensor):
        return [output]
    return list(output) if isinstance(output, list | tuple) else list(output.tensors())


def part_of(output: Any, start: int, stop: int) -> Any:
    """Return the output for samples start .. stop, in the same form."""
    if isinstance(output, Tensor):
        return output[start:stop]
    if isinstance(output, list | tuple):
        return [tensor[start:stop] for tensor in output]
    return output.part(start, stop)


def with_tensors(output: Any, tensors: Sequence[Tensor]) -> Any:
    """Return an output of the same form that holds other tensors, given in the order of `tensors_of`.

    Raises:
        TypeError: if a record is not a dataclass.
    """
    if isinstance(output, Tensor):
        return tensors[0]
    if isinstance(output, list | tuple):
        return list(tensors)
    if not is_dataclass(output) or isinstance(output, type):
        raise TypeError(f"{type(output).__name__} is not a dataclass: its tensors cannot be replaced")
    new = {id(old): tensor for old, tensor in zip(tensors_of(output), tensors, strict=True)}
    return replace(output, **{field.name: _swapped(getattr(output, field.name), new) for field in fields(output)})


def _swapped(value: Any, new: Mapping[int, Tensor]) -> Any:
    """Return `value` with its tensors replaced by id, inside lists, tuples and mappings too."""
    if isinstance(value, Tensor):
        return new[id(value)]
    if isinstance(value, list | tuple):
        return type(value)(_swapped(item, new) for item in value)
    if isinstance(value, Mapping):
        return {key: _swapped(item, new) for key, item in value.items()}
    return value
