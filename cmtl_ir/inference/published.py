"""An authors' checkpoint: a file of weights and the network that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.backbones.fields import backbone_fields
from cmtl_ir.base.errors import ConfigError
from cmtl_ir.base.problems import Problem
from cmtl_ir.base.weights_file import WeightsMisfit
from cmtl_ir.config.reading import with_overrides
from cmtl_ir.runs.begin.outside import OutsideModel

PREFIX = "backbone."


@dataclass(frozen=True)
class Published:
    """A checkpoint that is used like a run, as in `restore(Published(...), source, target)`."""

    file: Path
    """.pth, .ckpt or .safetensors. Mappings around the tensors are removed, and nothing but tensors is read."""
    backbone: Mapping[str, Any]
    """Name and constructor fields of the network."""

    def model(self, device: torch.device, say: Callable[[str], None] | None = None) -> nn.Module:
        """Return the network with these weights, in eval mode.

        `say` is called with one line about which weights of the file were taken; `None` says nothing. Raises
        WeightsError listing the keys that do not fit, and ConfigError if the network refuses its fields.
        """
        name = self.backbone["name"]
        model = initial_model(self.backbone, 0)
        try:
            report = backbones.load_weights(model, self.file)
        except WeightsMisfit as error:
            way_out = f"`cmtl-ir describe {name}` lists its fields; give those of the file: --set backbone.FIELD=VALUE"
            raise WeightsMisfit(f"{error}\n{way_out}") from error
        if say is not None:
            say(str(report))
        return network_to_device(model, device).eval()


def published(file: str | Path, backbone: str, overrides: Sequence[str] = ()) -> Published:
    """Return the checkpoint of a backbone whose fields are given as `FIELD=VALUE` or `backbone.FIELD=VALUE`.

    Raises ConfigError for an unknown backbone or field.
    """
    return Published(Path(file).expanduser(), backbone_of(backbone, overrides))


def outside_model(checkpoint: Published, say: Callable[[str], None] | None = None) -> OutsideModel:
    """Return the network of a checkpoint with its weights, to be taken into the store. `say` as for `model`."""
    weights = checkpoint.model(torch.device("cpu"), say).state_dict()
    return OutsideModel(checkpoint.file.stem, checkpoint.backbone, dict(weights))


def backbone_of(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the name and all constructor fields of a backbone. Raises ConfigError with near names."""
    problems: list[Problem] = []
    fields = with_overrides({}, [one.removeprefix(PREFIX) for one in overrides])
    resolved = backbone_fields({**fields, "name": name}, problems)
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return resolved
