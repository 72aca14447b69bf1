"""Fills the network of a run with weights that it begins from, strictly except for what is allowed to differ."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._weights import _stripped, unusable_values
from cmtl_ir.base.errors import suggestion
from cmtl_ir.base.weights_file import WeightsError, WeightsMisfit, listed


def fill(model: nn.Module, content: Mapping[str, Tensor], allow: Sequence[str], source: str) -> int:
    """Copy the tensors of `content` into a network, and return how many were copied.

    `allow` are shell patterns of tensors that may be missing, new or of another shape; those of the network keep their
    values. What a strategy adds to the backbone (experts, heads of objectives) need not be in `content`. Raises
    WeightsMisfit naming `source` and the tensors that do not fit, and WeightsError for values that no network can use.
    """
    expected, plain = model.state_dict(), _plain_names(model)
    if any(key in content for key, name in plain.items() if name is None):  # of the same kind of composed network
        plain = {key: key for key in plain}
    wanted = {name: key for key, name in plain.items() if name is not None}
    found, _ = _stripped(content, dict.fromkeys(wanted, torch.empty(0)))
    found = {name: one for name, one in found.items() if not _any(name, getattr(model, "recomputed", ()))}
    resized = [key for key in expected if _any(key, getattr(model, "sized_by_file", ()))]
    shapes = {name: expected[key].shape for name, key in wanted.items() if key not in resized}
    _refuse_idle(allow, sorted({*wanted, *found}), source)
    if not wanted.keys() & found.keys():
        raise WeightsMisfit(
            f"{source}: none of its {len(found)} tensors has a name of this network ({listed(list(found))} instead of "
            f"{listed(list(wanted))}); set backbone to the network that the weights are of"
        )
    if problems := _misfits(shapes, list(wanted), found, allow):
        raise WeightsMisfit(
            f"{source} does not fit the backbone: {'; '.join(problems)}; give backbone the fields of these weights, or "
            "name the tensors that may differ: start: {from: ..., allow: ['PATTERN']}"
        )
    taken = {key: found[name] for name, key in wanted.items() if name in found and _fits(shapes, name, found[name])}
    if problems := unusable_values({key: expected[key] for key in taken}, taken):
        raise WeightsError(f"{source} holds values that no network can use: {'; '.join(problems)}; fetch it again")
    _load(model, expected, taken, [key for key in resized if key in taken])
    return len(taken)


def _load(model: nn.Module, expected: Mapping[str, Tensor], taken: dict[str, Tensor], resized: Sequence[str]) -> None:
    for key in resized:
        owner, _, name = key.rpartition(".")
        setattr(model.get_submodule(owner), name, torch.empty_like(taken[key], device=expected[key].device))
    model.load_state_dict({**model.state_dict(), **taken})


def _plain_names(model: Any) -> dict[str, str | None]:
    """Return the name of each tensor in the backbone itself, or `None` for one that a strategy has added to it."""
    if hasattr(model, "plain_names"):
        named: dict[str, str | None] = model.plain_names()
        return named
    return {key: key for key in model.state_dict()}


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _fits(shapes: Mapping[str, Any], name: str, tensor: Tensor) -> bool:
    return name not in shapes or tensor.shape == shapes[name]


def _refuse_idle(allow: Sequence[str], names: list[str], source: str) -> None:
    for pattern in allow:
        if not _any_of(pattern, names):
            raise WeightsMisfit(
                f"{source}: `allow` names {pattern!r}, which matches no tensor; {suggestion(pattern, names)}"
            )


def _any_of(pattern: str, names: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def _misfits(
    shapes: Mapping[str, Any], wanted: list[str], found: Mapping[str, Tensor], allow: Sequence[str]
) -> list[str]:
    """Return sentences about tensors that do not fit and that `allow` does not name."""
    missing = [name for name in wanted if name not in found and not _any(name, allow)]
    unexpected = [name for name in found if name not in wanted and not _any(name, allow)]
    other = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != shape and not _any(name, allow)
    ]
    near = [(one, *difflib.get_close_matches(one, unexpected, n=1)) for one in missing]
    missing = [f"{one} (near: {close[0]})" if close else one for one, *close in near]
    groups = {"missing": missing, "unexpected": unexpected, "of another shape": other}
    return [f"{len(names)} {kind}: {listed(names)}" for kind, names in groups.items() if names]
