"""A trained network for the use outside this suite: weights under the authors' names, or a graph (pt2, ONNX)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cmtl_ir import backbones
from cmtl_ir.backbones.sources import SOURCES
from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.base.files import check_folder, write_json, write_whole
from cmtl_ir.inference.card import model_card
from cmtl_ir.inference.loading import single_network
from cmtl_ir.inference.onnx_graph import check_installed, read_graph, write_graph
from cmtl_ir.runs.trained import load_model
from cmtl_ir.store.folder import read_identity
from cmtl_ir.strategy.output import final_output

Format = Literal["torch", "pt2", "onnx"]
CARD, FIELDS = "README.md", "network.json"
FILES: dict[Format, str] = {"torch": "weights.pth", "pt2": "network.pt2", "onnx": "network.onnx"}
SIZES = ((1, 64, 128), (2, 128, 64))
"""Batch, height and width of the images on which what was written is compared with the network."""
CLOSE = 1e-4
"""Largest difference that another order of the same operations makes, of 1."""


class Restorer(nn.Module):
    """A network that returns the restored image alone, [B, 3, H, W] in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, tasks: Tensor) -> Tensor:
        """Restore images [B, 3, H, W] of the tasks [B] int64."""
        return final_output(self.network, self.network(images, tasks)).clamp(0.0, 1.0)


def export(run: str | Path, target: str | Path, form: Format = "torch", *, out: str | Path = "runs") -> list[Path]:
    """Write the network of a finished run to a folder, with its fields and a model card, and return the files.

    `torch`: a plain state dict under the authors' names of the tensors. `pt2`: a program of `torch.export`, which takes
    images [B, 3, H, W] whose sides are multiples of what `network.json` says, and tasks [B] int64. `onnx`: a graph with
    the same inputs, `images` and `tasks`, and the output `restored`; it needs cmtl-ir[onnx]. What was written is read
    again and compared with the network on images of two sizes.

    Raises UserError if the run is not that of one finished network, if the folder holds such files already or cannot be
    written, or if the written network differs.
    """
    if form == "onnx":
        check_installed()
    folder, target = single_network(run, out), Path(target).expanduser()
    check_folder(target, str(target))
    if standing := [one for one in (FILES[form], CARD, FIELDS) if (target / one).exists()]:
        raise UserError(f"{target / standing[0]} exists; name another folder, or remove it")
    model, tasks = load_model(folder, torch.device("cpu"))
    identity = read_identity(folder)
    target.mkdir(parents=True, exist_ok=True)
    file, again = target / FILES[form], {"torch": _as_weights, "pt2": _as_program, "onnx": _as_onnx}[form]
    restorer = Restorer(model).eval()
    try:
        _check(restorer, again(restorer, identity["backbone"], file), file)
    except UserError:
        file.unlink(missing_ok=True)
        raise
    multiple = SOURCES[identity["backbone"]["name"]].multiple if identity["backbone"]["name"] in SOURCES else "unknown"
    fields = {"backbone": identity["backbone"], "tasks": tasks, "multiple": "any side" if form == "torch" else multiple}
    written = [file, write_json(target / FIELDS, fields)]
    return [*written, write_whole(target / CARD, model_card(folder, file.name))]


def _as_weights(restorer: Restorer, fields: dict[str, Any], file: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Write the state dict, and return the network that is made of it."""
    weights = {key: value.contiguous() for key, value in restorer.network.state_dict().items()}
    torch.save(weights, file)
    model = backbones.build(**fields)
    backbones.load_weights(model, file)
    return Restorer(model).eval()


def _as_program(restorer: Restorer, fields: dict[str, Any], file: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Write the program for images of any number and size, and return it as it is read again."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(_program(restorer), file)
            return torch.export.load(file).module()
    except Exception as error:  # torch.export raises whatever a network's code provokes
        raise _refused("pt2", "torch.export", fields["name"], error) from error


def _as_onnx(restorer: Restorer, fields: dict[str, Any], file: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Write the ONNX graph for images of any number and size, and return it as it is read again."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write_graph(_program(restorer), file)
            return read_graph(file)
    except Exception as error:  # torch.export and torch.onnx raise whatever a network's code provokes
        raise _refused("onnx", "torch.onnx", fields["name"], error) from error


def _program(restorer: Restorer) -> torch.export.ExportedProgram:
    free = torch.export.Dim.AUTO
    shapes = {"images": {0: free, 2: free, 3: free}, "tasks": {0: free}}
    return torch.export.export(restorer, _images(2, 64, 128), dynamic_shapes=shapes, strict=False)


def _refused(form: Format, writer: str, name: str, error: Exception) -> UserError:
    return UserError(
        f"--format {form}: {writer} cannot take {name} for images of any size: {brief(error)}; give --format torch"
    )


@torch.no_grad()
def _check(restorer: Restorer, again: Callable[[Tensor, Tensor], Tensor], file: Path) -> None:
    """Raise UserError unless both give the same images."""
    for size in SIZES:
        images = _images(*size)
        try:
            apart = float((again(*images) - restorer(*images)).abs().max())
        except Exception as error:  # a guard of torch.export
            raise UserError(f"{file}: fails on {size[2]}x{size[1]}: {brief(error)}; give --format torch") from error
        if not apart <= CLOSE:
            raise UserError(
                f"{file}: differs from the network by {apart:.1e} on {size[2]}x{size[1]}; give --format torch"
            )


def _images(number: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    draw = partial(torch.rand, generator=torch.Generator().manual_seed(0))
    return draw(number, 3, height, width), torch.zeros(number, dtype=torch.int64)
