"""`cmtl-ir profile`: the cost of backbones. Other packages are imported when the command needs them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmtl_ir.cli.options import Device, backbone_names, table_file

if TYPE_CHECKING:
    from cmtl_ir.inference.profile import Profile

COLUMNS = ("backbone", "parameters", "multiply-adds", "ms/image", "peak MB")


def profile(
    backbone: Annotated[
        list[str] | None,
        typer.Argument(help="Names, or path/to/file.py:Class; none: all.", autocompletion=backbone_names),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the image in pixels.", min=16)] = 256,
    set_: Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Field of one backbone.")] = [],  # noqa: B006
    device: Device = "auto",
    csv: Annotated[Path | None, typer.Option(help="Also write the table to this file, unrounded.")] = None,
) -> None:
    """Measure what backbones cost: parameters, multiply-adds, milliseconds and memory for one image."""
    from cmtl_ir import backbones
    from cmtl_ir.backbones.building import pick_device
    from cmtl_ir.base.errors import UserError
    from cmtl_ir.inference.profile import profile as measured
    from cmtl_ir.inference.published import backbone_of

    csv = table_file(csv)
    names, chosen = backbone or backbones.names(), pick_device(device)
    if set_ and len(names) != 1:
        raise UserError(f"--set {' '.join(set_)}: changes the fields of one backbone; name exactly one")
    asked = [backbone_of(name, set_) for name in names]
    print(f"one image of {size}x{size}, float32, on {chosen}")
    print(_line(COLUMNS))
    rows = []
    for fields in asked:
        rows.append(measured(fields, size, chosen))
        print(_line(_cells(rows[-1])), flush=True)
    for row in rows:
        if row.unused:
            print(f"{row.backbone}: {row.unused:,} of its parameters are never read; the authors' weights hold them")
    if csv is not None:
        _write(csv, rows)
        print(f"table written to {csv}", file=sys.stderr)


def _cells(row: Profile) -> tuple[str, ...]:
    adds = f"{row.multiply_adds / 1e9:.2f} G"
    return row.backbone, f"{row.parameters:,}", adds, f"{row.milliseconds:,.1f}", f"{row.peak_bytes / 1e6:,.0f}"


def _line(cells: tuple[str, ...]) -> str:
    """Return one printed line. Lines have fixed columns, so that each can be printed as soon as it is measured."""
    first, *others = cells
    return first.ljust(16) + "".join(cell.rjust(15) for cell in others)


def _write(path: Path, rows: list[Profile]) -> None:
    from dataclasses import asdict

    from cmtl_ir.base.escaping import csv_text
    from cmtl_ir.base.files import write_whole

    write_whole(path, csv_text([list(asdict(rows[0])), *(list(asdict(row).values()) for row in rows)]))
