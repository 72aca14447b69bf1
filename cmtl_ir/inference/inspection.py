"""What a file of weights holds, and which backbone it fits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cmtl_ir import backbones
from cmtl_ir.backbones._weights import named_tensors
from cmtl_ir.inference.field_search import FieldSearch, Fit

TRIED = 3
"""Number of networks, most similar in the names of their tensors, whose fields are searched."""


@dataclass(frozen=True)
class Inspection:
    """The content of a file of weights, and the backbone that fits it best."""

    path: Path
    tensors: Mapping[str, tuple[int, ...]]
    """Name -> shape of every tensor."""
    numbers: int
    """Total number of elements."""
    kinds: tuple[str, ...]
    """Data types, sorted."""
    wrappers: tuple[str, ...]
    """Names of the mappings around the tensors, outermost first."""
    passed_over: tuple[str, ...]
    """Names of mappings next to the chosen ones that may hold weights too."""
    not_finite: tuple[str, ...]
    """Names of the tensors with NaN or infinity."""
    fit: Fit | None
    """The nearest backbone. `None` if no network has a similar name of a tensor."""
    undecided: tuple[str, ...]
    """Fields of that backbone that no tensor depends on. They have their defaults."""

    @property
    def fits(self) -> bool:
        """Whether all names and shapes agree."""
        return self.fit is not None and self.fit.cost == 0

    @property
    def options(self) -> list[str]:
        """The options that use this file: --weights, --backbone and one --set for each field that is no default."""
        if self.fit is None:
            return []
        defaults = FieldSearch(self.fit.backbone, {}).defaults
        own = {
            key: value
            for key, value in self.fit.fields.items()
            if value != (list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key])
        }
        fields = [word for key, value in own.items() for word in ("--set", f"{key}={_plain(value)}")]
        return ["--weights", str(self.path), "--backbone", self.fit.backbone, *fields]


def inspect(file: str | Path, candidates: Sequence[str] = ()) -> Inspection:
    """Return what a .safetensors, .pth or .ckpt file holds, and the backbone with the fields that it fits.

    `candidates` are names of backbones, or `file.py:Class`; empty: all that are shipped. Fields are inferred from the
    shapes. Raises WeightsError naming the file if it cannot be read, and UnknownName for an unknown backbone.
    """
    path = Path(file).expanduser()
    content, wrappers, passed_over = named_tensors(path)
    fit, undecided = _nearest(content, candidates or sorted(backbones.BACKBONES))
    return Inspection(
        path,
        {key: tuple(value.shape) for key, value in content.items()},
        sum(value.numel() for value in content.values()),
        tuple(sorted({str(value.dtype).removeprefix("torch.") for value in content.values()})),
        wrappers,
        passed_over,
        tuple(key for key, value in content.items() if _broken(value)),
        fit,
        tuple(undecided),
    )


def _nearest(content: Mapping[str, Tensor], candidates: Sequence[str]) -> tuple[Fit | None, list[str]]:
    """Return the best fit of the candidates, and the fields that no tensor decides."""
    searches = {name: FieldSearch(name, content) for name in candidates}
    starts = {name: start for name, one in searches.items() if (start := one.default()) is not None}
    alike = {name: _similarity(start, content) for name, start in starts.items()}
    best: Fit | None = None
    for name in sorted(starts, key=lambda name: -alike[name])[:TRIED]:
        if alike[name] > 0:
            found = searches[name].best(starts[name])
            best = found if best is None or found.cost < best.cost else best
            if best.cost == 0:
                break
    return best, searches[best.backbone].undecided(best) if best is not None and best.cost == 0 else []


def _similarity(start: Fit, content: Mapping[str, Tensor]) -> float:
    """Share of common names of tensors, with every number replaced, in all names."""
    strip = "".join(start.prefixes)
    ours = {re.sub(r"\d+", "#", key) for key in start.shapes}
    theirs = {re.sub(r"\d+", "#", key.removeprefix(strip)) for key in content}
    return len(ours & theirs) / len(ours | theirs)


def _broken(value: Tensor) -> bool:
    """Whether a tensor holds NaN or +infinity. Masks of attention hold -infinity."""
    floating = value.is_floating_point() and value.layout == torch.strided and not value.is_meta
    return floating and bool(value.float().isnan().any() or value.float().isposinf().any())


def _plain(value: object) -> str:
    return "null" if value is None else str(value).replace(" ", "")
