"""A network with small experts next to its blocks, which the retention `lira` trains.

Legend: B samples, C channels of a block, E experts, of which `live` are in use. Without live experts the network is
bit-equal to the plain one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cmtl_ir.backbones._latent import latent_of
from cmtl_ir.base.errors import ConfigError

PROBED = 64
"""Height of the zeros that show which blocks return feature maps [B, C, H, W]; their width is twice as large."""


class Mixture:
    """State of a forward pass that an `Adapted` shares with its blocks. It is copied together with them."""

    def __init__(self) -> None:
        self.weights: Tensor | None = None  # [B, 1 + live], that of the plain block first; None: the plain network
        self.asked: AdaptedBlock | None = None  # block whose output is recorded in `features`
        self.features: Tensor | None = None


class AdaptedBlock(nn.Module):
    """A block with E experts, each two 1x1 convolutions through `rank` channels: y + sum_e w_e up_e(down_e(y))."""

    def __init__(self, block: nn.Module, mixture: Mixture) -> None:
        super().__init__()
        self.block, self.mixture = block, mixture
        self.experts = nn.ModuleList()

    def grow(self, channels: int, experts: int, rank: int) -> None:
        """Add the experts. `up` starts at 0, so that they change nothing at first."""
        for _ in range(experts):
            down, up = nn.Conv2d(channels, rank, 1), nn.Conv2d(rank, channels, 1)
            nn.init.zeros_(up.weight)
            nn.init.zeros_(up.bias) if up.bias is not None else None
            self.experts.append(nn.Sequential(down, up))

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the block's output plus the experts' weighted outputs if it is a feature map [B, C, H, W]."""
        output, weights = self.block(*inputs, **named), self.mixture.weights
        if self.mixture.asked is self:
            self.mixture.features = output
        if weights is None or not self.experts:
            return output
        moves = [weights[:, 1 + e, None, None, None] * self.experts[e](output) for e in range(weights.shape[1] - 1)]
        return sum(moves, output)


class Adapted(nn.Module):
    """The network `of` with `experts` of `rank` channels next to each of its blocks, mixed depending on the image.

    Blocks are the modules whose class name ends with Block. The mixture is a softmax over the plain network and
    the live experts. It is computed from the pooled features of the middle block, the one of the smallest map, in a
    first pass of the plain network.
    """

    unused: tuple[str, ...] = ()
    opened: Tensor  # [] int64: how many experts are in use

    def __init__(self, *, of: dict[str, Any], experts: int = 1, rank: int = 8) -> None:
        super().__init__()
        from cmtl_ir.backbones import build

        self.network = build(**of)
        self.couples_samples = getattr(self.network, "couples_samples", False)
        self.restored_output = getattr(self.network, "restored_output", "first")
        self.output_weights = getattr(self.network, "output_weights", None)
        self.latent_module = latent_of(self.network, "network.")
        self.mixture = Mixture()
        maps = self._feature_maps(self._wrapped())
        if not maps:
            raise ConfigError(
                f"backbone {of['name']}: no module whose class is called ...Block returns feature maps, so lira cannot "
                "add experts; choose another backbone or another retention"
            )
        for block, (channels, _) in maps.items():
            block.grow(channels, experts, rank)
        smallest = min(area for _, area in maps.values())
        coarse = [block for block, (_, area) in maps.items() if area == smallest]
        self.middle = next(name for name, one in self.named_modules() if one is coarse[len(coarse) // 2])
        self.gate = nn.Linear(maps[coarse[len(coarse) // 2]][0], 1 + experts)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        self.register_buffer("opened", torch.zeros((), dtype=torch.int64))
        self.live = 0  # the value of `opened`, kept on the CPU to avoid a synchronisation
        self.register_load_state_dict_post_hook(lambda module, _: module.count())

    def plain_names(self) -> dict[str, str | None]:
        """Return the name of each tensor in the plain network, or `None` for one of the experts and the gate."""
        blocks = {f"{name}." for name, one in self.named_modules() if isinstance(one, AdaptedBlock)}
        return {key: _plain_name(key, blocks) for key in self.state_dict()}

    def open(self, live: int) -> None:
        """Use the first `live` experts in all later passes."""
        self.opened.fill_(live)
        self.count()

    def count(self) -> None:
        """Copy the value of `opened` to `live`."""
        self.live = int(self.opened)

    def forward(self, x: Tensor, task: Tensor | None = None) -> Any:
        """Return what the network returns for images [B, 3, H, W]."""
        if self.live:
            self.mixture.weights = self.gate(self._middle_features(x, task))[:, : 1 + self.live].softmax(1)
        try:
            return self.network(x, task)
        finally:
            self.mixture.weights = None

    @torch.no_grad()
    def _middle_features(self, x: Tensor, task: Tensor | None) -> Tensor:
        """Pooled features [B, C] of the plain network, which is frozen once experts are in use."""
        self.mixture.asked = self.get_submodule(self.middle)  # type: ignore[assignment]
        self.network(x, task)
        features, self.mixture.asked, self.mixture.features = self.mixture.features, None, None
        assert features is not None
        return features.float().mean((2, 3))

    def _wrapped(self) -> list[AdaptedBlock]:
        """Wrap every block of the network in an `AdaptedBlock`."""
        found = []
        for parent in list(self.network.modules()):
            for name, child in list(parent.named_children()):
                if type(child).__name__.endswith("Block"):
                    found.append(AdaptedBlock(child, self.mixture))
                    setattr(parent, name, found[-1])
        return found

    @torch.no_grad()
    def _feature_maps(self, blocks: list[AdaptedBlock]) -> dict[AdaptedBlock, tuple[int, int]]:
        """Channels and area per block that returns a feature map, in the order of a pass."""
        found: dict[AdaptedBlock, tuple[int, int]] = {}

        def note(block: AdaptedBlock, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[3] == 2 * output.shape[2]:
                found[block] = output.shape[1], output.shape[2] * output.shape[3]

        hooks = [block.register_forward_hook(note) for block in blocks]
        training = self.network.training
        self.network.eval()(torch.zeros(1, 3, PROBED, 2 * PROBED), torch.zeros(1, dtype=torch.int64))
        self.network.train(training)
        for hook in hooks:
            hook.remove()
        return found


def _plain_name(key: str, blocks: set[str]) -> str | None:
    """Return a name without `network.` and without the `block.` of each wrapped block. `None` for an added tensor."""
    if not key.startswith("network."):
        return None
    for end in [place + 1 for place, letter in enumerate(key) if letter == "."][::-1]:
        if key[:end] in blocks:
            if not key[end:].startswith("block."):
                return None
            key = key[:end] + key[end:].removeprefix("block.")
    return key.removeprefix("network.")
