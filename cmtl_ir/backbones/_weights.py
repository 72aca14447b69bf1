"""Loads published weights into a network, strictly, whatever the authors' training code wrapped around them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cmtl_ir.base.weights_file import WeightsError, WeightsMisfit, listed, read_weights

AVERAGED = re.compile(r"(?:^|.*_)(?:ema|averaged|shadow)(?:_.*|$)", re.IGNORECASE)
"""Names of mappings that hold averaged weights: params_ema, state_dict_ema, model_ema, ema_helper. Where a file holds
both kinds, the averaged weights are the ones that the paper scores."""
WRAPPERS = ("params", "params_g", "state_dict", "model_state_dict", "model", "net", "network")
"""Names of mappings that hold the weights themselves, in the order in which they are looked for."""
GENERATORS = ("netG.", "generator.")
"""Prefixes of the restoring network where a file also holds a discriminator, whose tensors are left out."""
PREFIXES = ("module.", "_orig_mod.", "net.", "model.", *GENERATORS)


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded, and what was removed around it."""

    path: Path
    tensors: int
    wrappers: tuple[str, ...]
    """Names of the mappings around the tensors, outermost first."""
    passed_over: tuple[str, ...]
    """Names of mappings next to the chosen ones that may hold weights too."""
    prefixes: tuple[str, ...]
    """Prefixes that every key had, in the order of their removal."""
    left_out: int = 0
    """Number of tensors of other networks in the file, such as a discriminator."""

    def __str__(self) -> str:
        """One line for the terminal."""
        place = f"from `{'.'.join(self.wrappers)}`" if self.wrappers else "from the top level"
        others = f", not from {', '.join(f'`{name}`' for name in self.passed_over)}" if self.passed_over else ""
        prefix = f", without the prefix `{''.join(self.prefixes)}`" if self.prefixes else ""
        rest = f"; {self.left_out} tensors of other networks left out" if self.left_out else ""
        return f"weights: {self.tensors} tensors of {self.path}, {place}{others}{prefix}{rest}"


def named_tensors(path: Path) -> tuple[Mapping[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Return the named tensors of a file, the names of the mappings around them, and those of mappings passed over.

    Raises WeightsError naming the file if it cannot be read or holds something else.
    """
    return _unwrapped(read_weights(path), path)


def load_weights(model: nn.Module, path: str | Path) -> WeightsReport:
    """Fill `model` from a .safetensors, .pth or .ckpt file. Raises WeightsError and then leaves the model as it was."""
    path = Path(path).expanduser()
    content, wrappers, passed_over = named_tensors(path)
    expected = model.state_dict()
    weights, prefixes = fitted(content, model)
    resized = resized_keys(model, expected)
    if any(misfit := misfits(expected, weights, resized)):
        raise WeightsMisfit(f"{path} does not fit this {type(model).__name__}: {misfit}")
    if problems := unusable_values(expected, weights):
        raise WeightsError(f"{path} holds values that no network can use: {'; '.join(problems)}; fetch the file again")
    for key in resized:
        owner, _, name = key.rpartition(".")
        setattr(model.get_submodule(owner), name, torch.empty_like(weights[key], device=expected[key].device))
    model.load_state_dict(weights)
    taken = len(_stripped(content, expected)[0])
    return WeightsReport(path, len(weights), wrappers, passed_over, prefixes, len(content) - taken)


def fitted(content: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors of a file under the names that a network expects, and the prefixes that were removed.

    Buffers that the network computes in each pass, for the size of the image, are left out.
    """
    stripped, prefixes = _stripped(content, model.state_dict())
    recomputed = getattr(model, "recomputed", ())
    return {key: one for key, one in stripped.items() if not any(fnmatchcase(key, p) for p in recomputed)}, prefixes


def resized_keys(model: nn.Module, expected: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of the tensors whose size a file decides."""
    return tuple(key for key in expected if any(fnmatchcase(key, one) for one in getattr(model, "sized_by_file", ())))


def _unwrapped(content: Any, path: Path) -> tuple[Mapping[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Return the named tensors, the names of the mappings around them, and those of mappings that were passed over."""
    wrappers: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    while isinstance(content, Mapping) and (inner := _weight_mappings(content)):
        chosen, *others = inner
        wrappers, passed_over = (*wrappers, chosen), (*passed_over, *others)
        content = content[chosen]
    if not isinstance(content, Mapping) or not content:
        found = "an empty mapping" if isinstance(content, Mapping) else type(content).__name__
        raise WeightsError(f"{path}: expected named tensors, found {found}; save the network's state_dict")
    if strange := [f"{key!r}" for key in content if not isinstance(key, str)]:
        raise WeightsError(
            f"{path}: these keys are no names of tensors: {listed(strange)}; save the network's state_dict"
        )
    if strange := [key for key, value in content.items() if not isinstance(value, Tensor)]:
        known = ", ".join(("*_ema", *WRAPPERS))
        raise WeightsError(
            f"{path}: these entries are no tensors: {listed(strange)} (weights are looked for in: {known}); "
            "save the network's state_dict"
        )
    return content, wrappers, passed_over


def _weight_mappings(content: Mapping[Any, Any]) -> list[str]:
    """Names of the mappings that may hold weights: the averaged ones first, empty ones last."""
    named = [key for key, value in content.items() if isinstance(key, str) and isinstance(value, Mapping)]
    averaged = [key for key in named if AVERAGED.fullmatch(key)]
    return sorted([*averaged, *(key for key in WRAPPERS if key in named)], key=lambda key: not content[key])


def _stripped(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    removed: tuple[str, ...] = ()
    stripped = dict(weights)
    # A network may have a part of its own called `net`. Then `net.` is not a prefix of a wrapper.
    foreign = [prefix for prefix in PREFIXES if not any(key.startswith(prefix) for key in expected)]
    while chosen := next((prefix for prefix in foreign if _precedes(prefix, stripped)), None):
        removed += (chosen,)
        stripped = {key.removeprefix(chosen): value for key, value in stripped.items() if key.startswith(chosen)}
    return stripped, removed


def _precedes(prefix: str, keys: Collection[str]) -> bool:
    """Whether all keys have a prefix, or some of them have that of a generator."""
    having = [key.startswith(prefix) for key in keys]
    return all(having) or (prefix in GENERATORS and any(having))


class Misfits(NamedTuple):
    """What differs between the tensors of a network and those of a file."""

    missing: list[str]
    unexpected: list[str]
    other_shape: list[str]
    """Sentences: `KEY SHAPE instead of SHAPE`."""

    def __str__(self) -> str:
        kinds = zip(("missing", "unexpected", "other shape"), self, strict=True)
        return "; ".join(f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in kinds if keys)


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], resized: Collection[str]) -> Misfits:
    """Return what differs between the tensors of a network and those of a file. `resized` may have any shape."""
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in found and key not in resized and found[key].shape != value.shape
    ]
    missing = [key for key in expected if key not in found]
    return Misfits(missing, [key for key in found if key not in expected], shapes)


def unusable_values(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return sentences about tensors of another kind of number than the network's, and about NaN and infinities.

    Infinities are accepted where the network's own tensor holds some, as in a mask. Both mappings have the same keys.
    """
    kinds = [
        f"{key} is {_kind(found[key])} instead of {_kind(value)}"
        for key, value in expected.items()
        if _kind(found[key]) != _kind(value)
    ]
    not_finite = [
        key for key, value in expected.items() if not kinds and not _is_finite(found[key]) and _is_finite(value)
    ]
    groups = {"of another kind": kinds, "with NaN or infinity": not_finite}
    return [f"{len(keys)} tensors {kind}: {listed(keys)}" for kind, keys in groups.items() if keys]


def _kind(value: Tensor) -> str:
    if value.is_meta:
        return "without data"
    if value.layout != torch.strided:
        return "sparse"
    if value.is_quantized or value.dtype == torch.bool or value.is_complex():
        return str(value.dtype).removeprefix("torch.")
    return "floating-point" if value.is_floating_point() else "integer"


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or value.is_meta or bool(value.float().isfinite().all())
