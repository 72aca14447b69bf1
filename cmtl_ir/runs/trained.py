"""The trained network of a finished run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cmtl_ir.backbones._weights import unusable_values
from cmtl_ir.backbones.building import initial_model, network_to_device
from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.store import checkpoint
from cmtl_ir.store.layout import WEIGHTS


def load_model(run: Path, device: torch.device) -> tuple[nn.Module, list[str]]:
    """Return the trained backbone of a run of one model, in eval mode, and the names of its tasks.

    Raises UserError if the weights are missing, damaged, not those of a run, or hold NaN.
    """
    file = run / WEIGHTS
    weights, header = checkpoint.load_weights(file)
    if "backbone" not in header or "tasks" not in header:
        raise UserError(
            f"{file} is not the weights of a run: its header names no backbone. A checkpoint of other origin is used "
            "with --weights FILE --backbone NAME"
        )
    model = initial_model(json.loads(header["backbone"]), 0)
    expected = model.state_dict()
    if weights.keys() == expected.keys() and (problems := unusable_values(expected, weights)):
        raise UserError(
            f"{file} holds values that no network can use: {'; '.join(problems)}; train the run again with "
            "`cmtl-ir run EXPERIMENT --fresh`"
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{file} does not fit its backbone, whose code has changed since: {brief(error)}") from error
    return network_to_device(model, device).eval(), json.loads(header["tasks"])


def trained_tasks(identity: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """Return the tasks that a run was trained on, of those that its network knows."""
    curriculum = identity.get("strategy", {}).get("curriculum") or {}
    if curriculum.get("name") == "single":
        return [curriculum["task"]]
    return [task for task in known if task not in curriculum.get("without", ())]
