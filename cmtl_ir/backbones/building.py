"""From the fields of an experiment to a network on its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.base.errors import ConfigError, UserError, brief
from cmtl_ir.base.keyed import name_key

BROKEN = (
    ValueError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError, RuntimeError,
    ImportError, OSError,
)  # fmt: skip
"""What a constructor raises on fields that it cannot use, and what a file of one's own raises on import."""


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first GPU if there is one, else the CPU.

    Raises UserError if PyTorch knows no such device or this machine has none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--device {name}: no such device; use {_usable_devices()}") from error
    here = device.type == _accelerator() and (device.index or 0) < torch.accelerator.device_count()
    if device.type == "cpu" or here:
        return device
    raise UserError(
        f"--device {name}: PyTorch {torch.__version__} finds no such device on this machine; use {_usable_devices()}"
    )


def _accelerator() -> str | None:
    """Type of the accelerator that PyTorch can use now; `None` if there is none."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found.type if found is not None else None


def _usable_devices() -> str:
    kind = _accelerator()
    numbered = [f"{kind}:{number}" for number in range(torch.accelerator.device_count())] if kind else []
    return ", ".join(["auto", "cpu", *([kind] if kind else []), *numbered])


def initial_model(fields: Mapping[str, Any], seed: int) -> nn.Module:
    """Build the backbone with weights that depend on the seed only. The global generator is left as it was.

    Raises ConfigError if its constructor refuses the fields.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(name_key(seed, "network initialisation") & 0x7FFFFFFFFFFFFFFF)
        try:
            return backbones.build(**fields)
        except BROKEN as error:
            name, others = fields["name"], {key: value for key, value in fields.items() if key != "name"}
            raise ConfigError(
                f"backbone {name}: {brief(error)}; its fields were {others}. "
                f"`cmtl-ir describe {name}` says what they mean and their defaults"
            ) from error


def network_to_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on a device, its weights in channels_last: faster convolutions on CPU and GPU."""
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
