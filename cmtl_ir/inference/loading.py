"""The network of a finished run, as a plain PyTorch module."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from cmtl_ir.backbones.building import pick_device
from cmtl_ir.base.errors import UserError
from cmtl_ir.inference.published import Published
from cmtl_ir.runs.trained import load_model as trained_model
from cmtl_ir.store.folder import is_grouped, read_groups
from cmtl_ir.store.lookup import find_run


def load_model(run: str | Path | Published, *, out: str | Path = "runs", device: str = "auto") -> nn.Module:
    """Return the trained network of a run or of a checkpoint, in eval mode on `device`.

    `run` is COMPARISON/LABEL[/SEED], a hash or a folder. The network takes images [B, 3, H, W] in [0, 1] of any size,
    and task numbers [B] int64, which count the tasks in the experiment's order and may be left out if it reads none. It
    returns the restored images [B, 3, H, W], or a list of images of which `restored_output` says which one is restored.
    Values may leave [0, 1] a little.

    Raises UserError if there is no such finished run, or if it is a grouped run, which has several networks.
    """
    chosen = pick_device(device)
    if isinstance(run, Published):
        return run.model(chosen)
    folder = single_network(run, out)
    return trained_model(folder, chosen)[0]


def single_network(run: str | Path, out: str | Path) -> Path:
    """Return the folder of a finished run of one network. Raises UserError as `load_model` does."""
    folder = find_run(run, out)
    if is_grouped(folder):
        members = ", ".join(f"{one['run']} ({', '.join(one['serves'])})" for one in read_groups(folder)["groups"])
        raise UserError(f"{run}: is a grouped run of several networks; name one of them: {members}")
    return folder
