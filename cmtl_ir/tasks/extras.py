"""Images that are trained on in addition to the clean images of an experiment, and never tested on."""

from __future__ import annotations

from pathlib import Path

from cmtl_ir.tasks.embedded import embedded_files
from cmtl_ir.tasks.images.dead_leaves import rendered_files

PREFIX = "extra:"
"""How the names of these images start."""


def is_extra(name: str) -> bool:
    """Whether the image of this name was added by `data.textures` or `data.dead_leaves`."""
    return name.startswith(PREFIX)


def extra_files(textures: bool, dead_leaves: int, cache: Path | None = None) -> dict[str, Path]:
    """Return name -> file of the embedded textures and of so many dead-leaves images.

    Images that are not in the cache are rendered. `cache=None` is the default folder.
    """
    files = embedded_files("texture") if textures else {}
    if dead_leaves:
        files |= rendered_files(dead_leaves, cache)
    return {PREFIX + name: path for name, path in files.items()}
