"""Guests from TorchJD (MIT licence): `torchjd:NAME` runs its class of that exact name, unmodified, on our rows.

TorchJD's absolute cut-offs disable methods at small gradients, so a guest is given G / trace G, unless it remembers
norms from step to step. Its random draws come from a generator that is seeded by (seed, step) and restored afterwards.
A guest's state is indexed by position, so it is reset when the rows present change.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import torch
from pydantic import Field, PrivateAttr, create_model
from torch import Tensor, nn

from cmtl_ir.base.errors import UnknownName, suggestion
from cmtl_ir.strategy.data import StepContext
from cmtl_ir.strategy.parts import Cost, Surgery, Tier

FAMILY = "surgery"
ON_ROWS = ("ConFIG", "GradDrop", "TrimmedMean")  # these need the row matrix itself
SUM_ROWS = ("PCGrad", "GradVac", "FairGrad", "ConFIG", "GradDrop")  # K equal rows g give K g, so scale by 1/K
REMEMBER_NORMS = ("PCD",)
REFUSED = {
    "NashMTL": "its solver's state cannot be saved; use nash_mtl",
    "ExcessMTL": "it is not a function of the Gramian",
    "MoDoWeighting": "it needs gradients of two independent batches",
    "SDMGradWeighting": "it needs gradients of two independent batches",
    "CRMOGMWeighting": "it wraps another weighting",
}


def host(family: str, name: str) -> type[Surgery]:
    """Return the part that runs TorchJD's class `name`.

    Raise UnknownName if the class cannot be hosted, and ImportError with the pip line if TorchJD is missing.
    """
    if family != FAMILY:
        raise UnknownName(f"torchjd:{name} is a {FAMILY}, not a {family}")
    try:
        aggregation = importlib.import_module("torchjd.aggregation")
    except ImportError as error:
        raise ImportError(f'torchjd:{name} needs TorchJD: pip install "torchjd[full]"') from error
    if name in REFUSED:
        raise UnknownName(f"torchjd:{name} cannot be hosted: {REFUSED[name]}")
    if name not in guests(aggregation):
        raise UnknownName(f"unknown surgery 'torchjd:{name}': {suggestion(name, guests(aggregation))}")
    return _hosted(getattr(aggregation, name))


def names() -> list[str]:
    """Return the names that can be hosted, none if TorchJD is missing."""
    try:
        return guests(importlib.import_module("torchjd.aggregation"))
    except ImportError:
        return []


def guests(aggregation: types.ModuleType) -> list[str]:
    """Return the names that can be hosted: every Gramian weighting, as aggregator or weighting, and a few on rows."""
    base = aggregation.GramianWeightedAggregator
    exported = {name: getattr(aggregation, name) for name in aggregation.__all__}
    of_gramian = [name for name, cls in exported.items() if issubclass(cls, base) and cls is not base]
    return sorted([*of_gramian, *(f"{name}Weighting" for name in of_gramian), *ON_ROWS])


class Guest(Surgery):
    """A class of TorchJD. Its fields are the arguments of that class's constructor."""

    cost: ClassVar[Cost] = Cost(backward_passes="1, split by row", memory="[M, P] row gradients")
    guest: ClassVar[type[nn.Module]]

    _module: nn.Module = PrivateAttr(default_factory=nn.Module)

    def model_post_init(self, context: Any, /) -> None:
        """Build the guest, so that a bad argument or a missing solver is reported before training."""
        super().model_post_init(context)
        module = self.guest(**{name: _argument(getattr(self, name)) for name in type(self).model_fields})
        self._module = getattr(module, "gramian_weighting", module)

    def reset(self) -> None:
        """Reset the state and build the guest again."""
        super().reset()
        self.model_post_init(None)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a saved state. One call creates the guest's buffers, which are then overwritten."""
        self.reset()
        super().load_state_dict(state)
        if "rows" in state:
            self._module(torch.eye(len(state["rows"]), dtype=torch.float64))
            for name, buffer in state["buffers"].items():
                setattr(self._module, name, buffer.clone())

    def weights(self, gramian: Tensor, losses: Tensor, context: StepContext) -> Tensor:
        """Return v [M] for a Gramian [M, M]. A Gramian of zeros, or a guest on rows, gives the mean."""
        mean = torch.full((len(gramian),), 1.0 / len(gramian), dtype=torch.float64)
        trace = gramian.trace()
        if self.needs == "rows" or trace <= 0.0:
            return mean
        rows = list(context.rows)
        if self.state.get("rows", rows) != rows:
            self.reset()
        with keyed_generator(context.key("torchjd"), gramian.device):
            v = self._module(gramian if self._is(REMEMBER_NORMS) else gramian / trace)
        buffers = {name: buffer.clone() for name, buffer in self._module.named_buffers(recurse=False)}
        if buffers:
            self.state.update(rows=rows, buffers=buffers)
        return v * mean if self._is(SUM_ROWS) else v

    def combine(self, rows: Tensor, weights: Tensor, context: StepContext) -> Tensor:
        largest = float(rows.abs().max())
        if self.needs != "rows" or largest == 0.0:
            return super().combine(rows, weights, context)
        with keyed_generator(context.key("torchjd"), rows.device):
            update = self._module(rows / largest) * largest
        return update / len(rows) if self._is(SUM_ROWS) else update

    def _is(self, names: tuple[str, ...]) -> bool:
        return self.guest.__name__.removesuffix("Weighting") in names


@contextmanager
def keyed_generator(key: int, device: torch.device) -> Iterator[None]:
    """Seed the global generator, from which TorchJD draws, and restore it afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(key)
        if device.type == "cuda":
            torch.cuda.manual_seed(key)
        yield


@cache
def _hosted(guest: type[nn.Module]) -> type[Surgery]:
    """Return a Surgery whose fields are the guest's arguments."""
    hints = typing.get_type_hints(guest.__init__)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(guest.__init__).parameters.items())[1:]:
        if name != "f":  # GradDrop's function of the sign purity cannot be written in YAML
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (_annotation(hints[name]), Field(default, description=f"As in TorchJD's {guest.__name__}."))
    made = create_model(f"TorchJD{guest.__name__}", __base__=Guest, __module__=__name__, **fields)
    text = re.sub(r":\w+:`~?(?:[^`]*\.)?([^`<]+)`", r"\1", inspect.cleandoc(guest.__doc__ or ""))  # Sphinx roles
    made.__doc__ = f"TorchJD's {guest.__name__}, hosted unmodified. {text}"
    made.guest = guest
    tier: Tier = "rows" if guest.__name__ in ON_ROWS else "gramian"
    made.needs = tier
    return made


def _annotation(hint: Any) -> Any:
    """Return the type that YAML can express: a list for a tensor, {norm_eps, reg_eps} for a projector."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    plain = {"Tensor": list[float], "DualConeProjector": dict[str, float]}
    return typing.Union[tuple(plain.get(getattr(option, "__name__", ""), option) for option in options)]  # noqa: UP007


def _argument(value: Any) -> Any:
    """Return the object that the guest's constructor takes, from its form in YAML."""
    if isinstance(value, list):
        return torch.tensor(value, dtype=torch.float64)
    if isinstance(value, dict):
        return importlib.import_module("torchjd.linalg").QuadprogProjector(**value)
    return value
