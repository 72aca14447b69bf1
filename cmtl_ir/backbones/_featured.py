"""A network that also returns what its own losses read: expert loads, class probabilities, logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cmtl_ir.base.errors import ConfigError


class _Featured:
    """Mixed into the class of a network: in training it returns its images and its own features by name."""

    training: bool

    def forward(self, x: Tensor, task: Tensor | None = None) -> Any:
        """[B, 3, H, W] -> what the network returns; in training what its `forward_features` returns."""
        return self.forward_features(x, task) if self.training else super().forward(x, task)  # type: ignore[misc]

    def forward_features(self, x: Tensor, task: Tensor | None = None) -> Any:
        return super().forward_features(x, task)  # type: ignore[misc]


def featured(*, of: dict[str, Any]) -> nn.Module:
    """Return the network `of`, which in training returns (images, features by name) as its `forward_features` does.

    The names of its parameters stay what they are. Raise ConfigError for a network without `forward_features`.
    """
    from cmtl_ir.backbones import build

    network: Any = build(**of)
    if not hasattr(network, "forward_features"):
        raise ConfigError(f"backbone {of['name']} returns no features of its own: it has no forward_features")
    network.__class__ = type(type(network).__name__, (_Featured, type(network)), {})
    return network
