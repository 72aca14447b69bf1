"""`cmtl-ir export`. Other packages are imported when the command needs them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cmtl_ir.cli.options import Out


class Form(StrEnum):
    """Format of an exported network."""

    torch = "torch"
    pt2 = "pt2"
    onnx = "onnx"


def export(
    run: Annotated[str, typer.Argument(help="A finished run: COMPARISON/LABEL[/SEED], its hash, or its folder.")],
    target: Annotated[Path, typer.Argument(help="Folder to write to.")],
    format_: Annotated[
        Form,
        typer.Option(
            "--format",
            help="torch: weights under the authors' names; pt2: a torch.export program; onnx: needs cmtl-ir[onnx].",
        ),
    ] = Form.torch,
    out: Out = Path("runs"),
) -> None:
    """Write a trained network for use outside cmtl-ir, with its fields as JSON and a model card."""
    from cmtl_ir.cli.display import say
    from cmtl_ir.inference.export import SIZES
    from cmtl_ir.inference.export import export as write

    for file in write(run, target, format_.value, out=out):
        say(str(file))
    say(f"compared with the network on images of {' and '.join(f'{w}x{h}' for _, h, w in SIZES)}")
