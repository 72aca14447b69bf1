"""The trained network of a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from cmtl_ir import backbones
from cmtl_ir.backbones.building import network_to_device
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import WEIGHTS


def load_model(run: Path, device: torch.device) -> tuple[nn.Module, list[str]]:
    """The trained backbone of a run of one model, in eval mode, and its tasks."""
    weights, header = checkpoint.load_weights(run / WEIGHTS)
    model = backbones.build(**json.loads(header["backbone"]))
    model.load_state_dict(weights)
    return network_to_device(model, device).eval(), json.loads(header["tasks"])
