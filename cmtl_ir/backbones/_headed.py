"""A network with heads on its latent: what auxiliary objectives train, and their runs leave.

Shapes: B samples; the latent is [B, C, h, w] or [B, N, C], as the network has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._latent import Reading, channels_of, latent_of, per_sample, read_output
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.strategy.making import objective_part

PROBED = 64
"""Height and width of the zeros that show how many channels the latent has."""


class _Headed:
    """Mixed into the class of a network: in training it returns (what it returned, features by name)."""

    auxiliary: nn.ModuleDict
    reading: Reading
    returns_features: bool
    training: bool

    def forward(self, x: Tensor, task: Tensor | None = None, **given: Tensor) -> Any:
        """[B, 3, H, W] -> what the network returns; in training a tuple of it and the features."""
        returned = super().forward(x, task, **given)  # type: ignore[misc]
        latent = per_sample(self.reading.take(), len(x))
        if not (self.training or self.returns_features):
            return returned
        own = {}
        if isinstance(returned, tuple):  # images and the network's own features
            returned, own = returned
        return returned, {**own, "latent": latent, **{label: head(latent) for label, head in self.auxiliary.items()}}

    def plain_names(self) -> dict[str, str | None]:
        """Return the name of each tensor in the network without heads, or `None` for one of a head."""
        above: Any = super()
        network: Any = self
        own = above.plain_names() if hasattr(above, "plain_names") else {key: key for key in network.state_dict()}
        return {key: None if key.startswith("auxiliary.") else name for key, name in own.items()}


def headed(*, of: dict[str, Any], heads: Mapping[str, Mapping[str, Any]], tasks: Sequence[str]) -> nn.Module:
    """Return the network `of`, which in training returns its latent and what heads make of it next to its images.

    `heads` maps labels of objectives to their names and fields. The network keeps the names of its parameters, and the
    heads stand under `auxiliary.LABEL`. In eval mode, and so in evaluation and `restore`, they do not run, unless the
    network's attribute `returns_features` is set.
    """
    from cmtl_ir.backbones import build

    network: Any = build(**of)
    name = latent_of(network)
    if name is None:
        raise ConfigError(
            f"backbone {of['name']} names no latent, which {', '.join(heads)} needs: "
            "give its class the attribute latent_module, the dotted name of a module"
        )
    network.reading, network.returns_features = read_output(network, name), False
    channels, made = _channels(network), nn.ModuleDict()
    for label, fields in heads.items():
        head = objective_part(fields, f"auxiliary.{label}").head(channels, list(tasks))
        if head is not None:
            made[label] = _uncoupled(head, label)
    network.auxiliary = made
    network.__class__ = type(type(network).__name__, (_Headed, type(network)), {})
    return network


@torch.no_grad()
def _channels(network: Any) -> int:
    training = network.training
    network.eval()(torch.zeros(1, 3, PROBED, PROBED), torch.zeros(1, dtype=torch.int64))
    network.train(training)
    return channels_of(network.reading.take())


def _uncoupled(head: nn.Module, label: str) -> nn.Module:
    """Return the head. Raise ConfigError where it couples the samples of a batch."""
    for module in head.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(
                f"auxiliary.{label}: its head has {type(module).__name__}, which couples the samples of a batch; "
                "use LayerNorm or GroupNorm"
            )
    return head
