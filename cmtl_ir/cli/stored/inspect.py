"""`cmtl-ir inspect`: what a file of weights holds. Other packages are imported when the command needs them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmtl_ir.cli.options import backbone_names

if TYPE_CHECKING:
    from cmtl_ir.inference.inspection import Inspection

SHOWN = 6
"""Number of keys that are printed without --keys."""


def inspect(
    file: Annotated[Path, typer.Argument(help="An authors' checkpoint (.pth, .ckpt, .safetensors).")],
    backbone: Annotated[
        list[str],
        typer.Option(
            help="Only this network, or path/to/file.py:Class (repeat the option).", autocompletion=backbone_names
        ),
    ] = [],  # noqa: B006
    keys: Annotated[bool, typer.Option("--keys", help="Print the name and shape of every tensor.")] = False,
) -> None:
    """Show what a file of weights holds, and which backbone with which fields it fits. Exit with 1 if none fits."""
    from cmtl_ir.cli.display import say
    from cmtl_ir.inference.inspection import inspect as look

    found = look(file, backbone)
    for line in [*_content(found, keys), *_fit(found)]:
        say(line)
    if not found.fits or found.not_finite:
        raise typer.Exit(1)


def _content(found: Inspection, all_keys: bool) -> list[str]:
    """Lines about the file itself."""
    from cmtl_ir.base.weights_file import listed

    place = f"from `{'.'.join(found.wrappers)}`" if found.wrappers else "from the top level"
    others = f", not from {', '.join(f'`{name}`' for name in found.passed_over)}" if found.passed_over else ""
    prefix = f", without the prefix `{''.join(found.fit.prefixes)}`" if found.fit and found.fit.prefixes else ""
    lines = [
        f"{found.path}: {len(found.tensors)} tensors, {found.numbers:,} numbers ({', '.join(found.kinds)})",
        f"taken {place}{others}{prefix}",
    ]
    shown = list(found.tensors.items())[: None if all_keys else SHOWN]
    lines += [f"  {key} {_shape(shape)}" for key, shape in shown]
    if len(shown) < len(found.tensors):
        lines.append(f"  and {len(found.tensors) - len(shown)} more (--keys shows all)")
    if found.not_finite:
        names = listed(list(found.not_finite))
        lines.append(f"{len(found.not_finite)} tensors hold NaN or infinity: {names}; fetch the file again")
    return lines


def _fit(found: Inspection) -> list[str]:
    """Lines about the backbone that fits, or that is nearest."""
    if found.fit is None:
        return ["backbone: none has a tensor of a similar name; give a network of your own as --backbone file.py:Class"]
    fit = found.fit
    fields = ", ".join(f"{key}={value}" for key, value in fit.fields.items())
    if not found.fits:
        return [f"backbone: none fits; the nearest is {fit.backbone} with {fields}", f"  {fit.misfits}"]
    lines = [f"backbone: {fit.backbone} fits every key and shape", f"  {fields}"]
    if found.undecided:
        lines.append(f"  no shape depends on {', '.join(found.undecided)}: check them with the authors' configuration")
    return [*lines, f"use it: cmtl-ir restore {shlex.join(found.options)} SOURCE TARGET"]


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
