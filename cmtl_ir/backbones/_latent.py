"""Reading the output of one module of a network while the network runs. Shapes: B samples, C channels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Reading:
    """Where a module leaves its output during a forward pass; copied together with its network."""

    def __init__(self) -> None:
        self.output: Tensor | None = None

    def take(self) -> Tensor:
        """Return the output of the last forward pass and forget it. Raise RuntimeError if the module did not run."""
        output, self.output = self.output, None
        if output is None:
            raise RuntimeError("the network did not run the module that it names as latent_module")
        return output


class _Read:
    """Mixed into the class of a module: its forward pass leaves the output in `reading`."""

    reading: Reading

    def forward(self, *inputs: Any, **named: Any) -> Any:
        output = super().forward(*inputs, **named)  # type: ignore[misc]
        self.reading.output = output
        return output


def latent_of(network: nn.Module, prefix: str = "") -> str | None:
    """Return the dotted name of the module that a network names as its latent; `None` where it names none."""
    name = getattr(network, "latent_module", None)
    return None if name is None else f"{prefix}{name}"


def read_output(network: nn.Module, name: str) -> Reading:
    """Make the module of that name leave its output in the `Reading` that is returned.

    The module's class is replaced by a subclass: names of parameters stay what they are, and what looks at operations
    instead of modules, as the one-pass engine of row gradients does, sees nothing new.
    """
    module, reading = network.get_submodule(name), Reading()
    module.__class__ = type(type(module).__name__, (_Read, type(module)), {})
    module.reading = reading  # type: ignore[assignment]
    return reading


def per_sample(latent: Tensor, samples: int) -> Tensor:
    """Return a latent with one entry per sample: [B k, ...] of k windows per sample becomes [B, ...].

    Windows stand sample after sample. Tokens of all windows are joined; maps are put below one another.
    """
    if len(latent) == samples:
        return latent
    windows = latent.unflatten(0, (samples, -1))  # [B, k, N, C] or [B, k, C, h, w]
    return windows.flatten(1, 2) if windows.dim() == 4 else windows.transpose(1, 2).flatten(2, 3)


def channels_of(latent: Tensor) -> int:
    """Return the number of channels of a latent [B, C, h, w] or [B, N, C]."""
    return latent.shape[1] if latent.dim() == 4 else latent.shape[-1]
