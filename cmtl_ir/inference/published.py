"""An authors' checkpoint: a file of weights and the network that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.backbones._weights import WeightsError
from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.backbones.fields import backbone_fields
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.problems import Problem
from cmtl_ir.config.reading import with_overrides

PREFIX = "backbone."


@dataclass(frozen=True)
class Published:
    """Stands where a run may stand: `restore(Published(...), source, target)`."""

    file: Path
    """.pth, .ckpt or .safetensors; whatever wraps its tensors is peeled off, and nothing but tensors is read."""
    backbone: Mapping[str, Any]
    """Name and constructor fields of the network."""

    def model(self, device: torch.device) -> nn.Module:
        """The network with these weights, in eval mode. Raises WeightsError listing the keys that do not fit."""
        name = self.backbone["name"]
        try:
            model = initial_model(self.backbone, 0)
        except ValueError as error:
            raise ConfigError(f"backbone {name}: {error}") from error
        try:
            backbones.load_weights(model, self.file)
        except WeightsError as error:
            way_out = f"`cmtl-ir describe {name}` lists its fields; give those of the checkpoint with --set FIELD=VALUE"
            raise WeightsError(f"{error}\n{way_out}") from error
        return network_to_device(model, device).eval()


def published(file: str | Path, backbone: str, overrides: Sequence[str] = ()) -> Published:
    """The checkpoint of a backbone whose fields are given as `FIELD=VALUE` or `backbone.FIELD=VALUE`.

    Raises ConfigError for an unknown backbone or field.
    """
    return Published(Path(file), backbone_of(backbone, overrides))


def backbone_of(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Name and all constructor fields of a backbone. Raises ConfigError with near names."""
    problems: list[Problem] = []
    fields = with_overrides({}, [one.removeprefix(PREFIX) for one in overrides])
    resolved = backbone_fields({**fields, "name": name}, problems)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return resolved
