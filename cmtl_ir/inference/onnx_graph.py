"""ONNX graphs: writing one from a program of torch.export, and running one. Needs onnx and onnxscript."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cmtl_ir.base.errors import UserError

NEEDED = ("onnx", "onnxscript")


def check_installed() -> None:
    """Raise UserError if a package that writes ONNX graphs is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f"--format onnx needs {' and '.join(missing)}: pip install 'cmtl-ir[onnx]'")


def write_graph(program: torch.export.ExportedProgram, file: Path) -> None:
    """Write a program of images and tasks as one ONNX file whose output is called `restored`."""
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    graph = torch.onnx.export(program, dynamo=True, output_names=["restored"], verbose=False)
    assert graph is not None
    graph.save(file, external_data=False)


def read_graph(file: Path) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that runs the graph of a file: by onnxruntime if it is installed, or else by onnx itself."""
    session, names = _session(file)

    def run(images: Tensor, tasks: Tensor) -> Tensor:
        given = {"images": images.numpy(), "tasks": tasks.numpy()}
        (restored,) = session.run(None, {name: given[name] for name in names})
        return torch.from_numpy(restored)

    return run


def _session(file: Path) -> tuple[Any, list[str]]:
    """Return what runs the graph of a file, and the names of its inputs: a network may read no tasks."""
    if find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        return session, [one.name for one in session.get_inputs()]
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(file))
    return evaluator, list(evaluator.input_names)
