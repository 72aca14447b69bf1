"""Published weights -> a network, strictly, whatever the authors' training code wrapped around them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cmtl_ir.base.errors import UserError

# Averaged weights first: where a file holds both, they are the ones that the paper scores.
WRAPPERS = ("params_ema", "params", "state_dict", "model")
PREFIXES = ("module.", "net.", "model.")
SHOWN = 5


class WeightsError(UserError):
    """A weights file that does not fit or cannot be read; names the file and the first keys in question."""


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded, and what was peeled off to get at it."""

    path: Path
    tensors: int
    wrappers: tuple[str, ...]
    """Names of the mappings around the tensors, outermost first."""
    prefixes: tuple[str, ...]
    """Prefixes that every key had, in the order of their removal."""


def load_weights(model: nn.Module, path: str | Path) -> WeightsReport:
    """Fill `model` from a .safetensors, .pth or .ckpt file. Raises WeightsError and then leaves the model as it was."""
    path = Path(path).expanduser()
    content, wrappers = _unwrapped(_read(path), path)
    expected = model.state_dict()
    stripped, prefixes = _stripped(content, expected)
    # Buffers of the authors that the network computes in each pass, for the size of the image.
    weights = {
        key: value
        for key, value in stripped.items()
        if not any(fnmatchcase(key, one) for one in getattr(model, "recomputed", ()))
    }
    resized = tuple(
        key for key in expected if any(fnmatchcase(key, one) for one in getattr(model, "sized_by_file", ()))
    )
    problems = _problems(expected, weights, resized)
    if problems:
        raise WeightsError(f"{path} does not fit this {type(model).__name__}: {'; '.join(problems)}")
    for key in resized:
        owner, _, name = key.rpartition(".")
        setattr(model.get_submodule(owner), name, torch.empty_like(weights[key], device=expected[key].device))
    model.load_state_dict(weights)
    return WeightsReport(path, len(weights), wrappers, prefixes)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Only this error has a way out that is not a new download, hence its own words.
        raise WeightsError(
            f"{path}: damaged, or it holds objects beside tensors ({_first_line(error)}); if you trust it, save its "
            "state_dict alone: torch.save(torch.load(path, weights_only=False)['state_dict'], 'weights.pth')"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: not a readable weights file, perhaps cut short: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _unwrapped(content: Any, path: Path) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    wrappers: tuple[str, ...] = ()
    while isinstance(content, Mapping) and (
        inner := [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    ):
        wrappers += (inner[0],)
        content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path}: expected named tensors, found {type(content).__name__}")
    strange = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        known = ", ".join(WRAPPERS)
        raise WeightsError(f"{path}: these entries are no tensors: {_listed(strange)} (weights are sought in: {known})")
    return content, wrappers


def _stripped(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    removed: tuple[str, ...] = ()
    stripped = dict(weights)
    # A network may have a part of its own called `net`: such a prefix is no wrapper's.
    foreign = [prefix for prefix in PREFIXES if not any(key.startswith(prefix) for key in expected)]
    while common := [prefix for prefix in foreign if all(key.startswith(prefix) for key in stripped)]:
        removed += (common[0],)
        stripped = {key.removeprefix(common[0]): value for key, value in stripped.items()}
    return stripped, removed


def _problems(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], resized: tuple[str, ...]) -> list[str]:
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in found and key not in resized and found[key].shape != value.shape
    ]
    groups = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "other shape": shapes,
    }
    return [f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in groups.items() if keys]


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
