"""Networks composed of other networks, for two prototypes of all-in-one restoration that no published code serves.

Shapes: B images, K tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

NAFNET: Mapping[str, Any] = {"name": "nafnet"}
NAFNET_ENCODER = ("intro", "encoders", "downs")


class _ByTask(nn.Module):
    """A network that restores each image by the network of its task."""

    couples_samples: bool
    unused: tuple[str, ...]

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        first: Any = networks[0]
        self.couples_samples = getattr(first, "couples_samples", False)
        self.restored_output = getattr(first, "restored_output", "first")
        self.output_weights = getattr(first, "output_weights", None)

    def networks(self) -> Sequence[nn.Module]:
        """Return the K networks."""
        raise NotImplementedError

    def forward(self, x: Tensor, task: Tensor | None = None) -> Any:
        """[B, 3, H, W] and the task numbers [B] -> what the network of each image's task returns.

        A network runs on the whole batch if one of its images needs it. Raise ValueError without task numbers, or for
        a number that no network has.
        """
        networks = self.networks()
        if task is None:
            raise ValueError(f"{type(self).__name__} needs the task number of every image: model(x, task)")
        present = task.unique().tolist()
        if present[0] < 0 or present[-1] >= len(networks):
            raise ValueError(f"task numbers {present} for a composition of {len(networks)} tasks")
        y = networks[present[0]](x, task)
        for number in present[1:]:
            y = _chosen(task == number, networks[number](x, task), y)
        return y


def _chosen(mask: Tensor, one: Any, other: Any) -> Any:  # [B]; images [B, ...] or lists of them
    if isinstance(one, Tensor):
        return torch.where(mask.view(-1, 1, 1, 1), one, other)
    return [_chosen(mask, *pair) for pair in zip(one, other, strict=True)]


class IndependentNetworks(_ByTask):
    """K networks of one kind, one per task: prototype (a) of the survey. A composition, not a published network.

    `of` gives name and fields of the network, `tasks` their number. The keys of network k begin with `nets.k.`. `task`
    is required. The composition has no latent, because no module runs on the images of every task.
    """

    def __init__(self, *, of: Mapping[str, Any] = NAFNET, tasks: int = 3) -> None:
        from cmtl_ir.backbones import build

        nets = [build(**of) for _ in range(tasks)]
        super().__init__(nets)
        self.nets = nn.ModuleList(nets)
        self.unused = tuple(f"nets.*.{pattern}" for pattern in getattr(nets[0], "unused", ()))

    def networks(self) -> Sequence[nn.Module]:
        return list(self.nets)


class OwnEncoders(_ByTask):
    """An encoder per task and a shared rest: prototype (b) of the survey. A composition, not a published network.

    The survey's example (Li et al., CVPR 2020) has no public code. `of` gives name and fields of the network, `own` the
    names of its direct submodules that every task has for itself, `tasks` their number. The keys of task k's own
    modules begin with `heads.k.`, the others are those of the network. `task` is required.
    """

    def __init__(self, *, of: Mapping[str, Any] = NAFNET, own: Sequence[str] = NAFNET_ENCODER, tasks: int = 3) -> None:
        """Raise ValueError if `own` names no direct submodule, or if the network has parameters outside of them."""
        from cmtl_ir.backbones import build

        nets = [build(**of) for _ in range(tasks)]
        super().__init__(nets)
        children = dict(nets[0].named_children())
        unknown = sorted(set(own) - set(children))
        if unknown or not own:
            raise ValueError(f"own is {list(own)}: it names direct submodules of {of['name']}: {', '.join(children)}")
        loose = [*nets[0].named_parameters(recurse=False), *nets[0].named_buffers(recurse=False)]
        if loose:
            raise ValueError(f"{of['name']} has tensors outside of its submodules, such as {loose[0][0]}")
        self.heads = nn.ModuleList(nn.ModuleDict({name: net.get_submodule(name) for name in own}) for net in nets)
        for name in children.keys() - set(own):
            setattr(self, name, children[name])
            for net in nets[1:]:
                setattr(net, name, children[name])
        self._frames = _Frames(nets)
        latent = getattr(nets[0], "latent_module", None)
        self.latent_module = latent if latent is None or latent.partition(".")[0] not in own else None
        patterns = getattr(nets[0], "unused", ())
        self.unused = tuple(f"heads.*.{one}" if one.partition(".")[0] in own else one for one in patterns)

    def networks(self) -> Sequence[nn.Module]:
        return self._frames.nets

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for net in self._frames.nets:
            net.training = mode
        return self


class _Frames:
    """The K networks, whose submodules the composition holds: out of sight of its registration of submodules."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        self.nets = nets
