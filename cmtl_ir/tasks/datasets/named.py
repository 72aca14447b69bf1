"""Find named data sets on this machine: a name and a folder -> the files of a split.

Nothing is downloaded. Letter case of folders does not matter. A set may be stored in any of the forms that its row of
the table lists; the first form whose folders hold matching images is used.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

from cmtl_ir.tasks.datasets.record import ALL, Form, Layout, Part, place
from cmtl_ir.tasks.datasets.table import find_layout
from cmtl_ir.tasks.images.decode import DataError, image_files
from cmtl_ir.tasks.images.pairs import captures, match
from cmtl_ir.tasks.sources import DatasetSource, PairsConfig

Role = Literal["train", "val", "test"]
ROOT_VARIABLE = "CMTL_IR_DATA"
log = logging.getLogger("cmtl_ir")


def pairs_of(config: PairsConfig, role: Role, data_root: str | None) -> PairsConfig:
    """Return the folders and patterns of a named set of pairs for a role. Folders given by the user are returned as is.

    Raise DataError with the places that were searched if the set is not found.
    """
    if config.dataset is None:
        return config
    layout = find_layout(config.dataset)
    split, root = split_of(layout, role, config.split), root_of(layout, config.root, data_root)
    for form in layout.forms(split):
        folders = _folders(form, root)
        found = _as_pairs(layout.splits[split], form, *folders) if folders else None
        if found is not None and _holds_pairs(found):
            return found
    raise _missing(layout, split, root)


def clean_files(source: DatasetSource, role: Role, data_root: str | None) -> tuple[str, dict[str, Path]]:
    """Return (key for the cache, name -> file) of a named set of clean images. Raise DataError if it is not found."""
    layout = find_layout(source.dataset)
    split, root = split_of(layout, role, source.split), root_of(layout, source.root, data_root)
    for form in layout.forms(split):
        for folder in _folders(form, root):
            files, pattern = _images(folder), place(form.clean)[1]
            if names := captures(files, pattern):
                return f"{os.path.abspath(folder)}\0{pattern}", {name: files[name] for name in names}
    raise _missing(layout, split, root)


def split_of(layout: Layout, role: Role, named: str | None = None) -> str:
    """Return the split that serves a role: `named`, else the split of the role, else all of a set without splits.

    `named=None` means that the user named no split. Raise DataError if no split serves the role.
    """
    if named is not None:
        return named
    if role in layout.splits or ALL in layout.splits:
        return role if role in layout.splits else ALL
    known = ", ".join(layout.splits)
    raise DataError(f"{layout.name} has no {role} images, only {known}; name one with `split:`, or another set")


def has_test(dataset: str, split: str | None) -> bool:
    """Whether a set has test images of its own for a task that trains on it."""
    return split is None and "test" in find_layout(dataset).splits


def warn_if_incomplete(dataset: str, role: Role, split: str | None, found: int) -> None:
    """Warn if the number of images of a set differs from the published one: silent gaps have spoilt many tables."""
    layout = find_layout(dataset)
    used = split_of(layout, role, split)
    published = layout.splits[used].count
    if published is not None and published != found:
        log.warning("%s: %d images where its authors published %d (%s)", dataset, found, published, used)


# ------------------------------------------------------------------------------------------------------ folders


def root_of(layout: Layout, root: str | None, data_root: str | None) -> Path:
    """Return the folder of a set. Raise DataError with the ways to name it if it is not found."""
    if root is not None:
        folder = Path(os.path.expanduser(root))
        if not os.path.isdir(folder):
            raise DataError(f"{layout.name}: {folder} is not a folder (looked from {Path.cwd()}); correct `root:`")
        return folder
    base = data_root or os.environ.get(ROOT_VARIABLE)
    if base is None:
        raise DataError(
            f"where is {layout.name}? Name its folder with `root:`, or the folder that holds {layout.folder} and your "
            f"other data sets with `--set data.root=FOLDER` or the environment variable {ROOT_VARIABLE}; "
            f"it comes from: {layout.source}"
        )
    found = below(Path(os.path.expanduser(base)), layout.folder)
    if found is None:
        raise DataError(
            f"{layout.name}: no folder {layout.folder} in {base}; name it with `root:`. It comes from: {layout.source}"
        )
    return found


def below(root: Path, folder: str) -> Path | None:
    """Return the folder of a path below `root`, or `None` if there is none.

    Letter case is ignored where the exact name is missing.
    """
    for step in filter(None, folder.split("/")):
        if not (root / step).is_dir():
            near = sorted(root.iterdir()) if root.is_dir() else []
            near = [one for one in near if one.name.casefold() == step.casefold() and one.is_dir()]
            if not near:
                return None
            step = near[0].name
        root = root / step
    return root if root.is_dir() else None


# -------------------------------------------------------------------------------------------------------- forms


def _folders(form: Form, root: Path) -> list[Path]:
    """Return the folders of a form, degraded images first; an empty list if one of them is missing."""
    sides = [place(one)[0] for one in (form.degraded, form.clean) if one is not None]
    found = [below(root, folder) for folder in sides]
    return [folder for folder in found if folder is not None] if all(found) else []


def _as_pairs(part: Part, form: Form, degraded: Path, clean: Path) -> PairsConfig:
    assert form.degraded is not None
    return PairsConfig(
        input=str(degraded),
        target=str(clean),
        input_name=place(form.degraded)[1],
        target_name=place(form.clean)[1],
        without=part.without,
        sizes="centre" if part.centre else "equal",
        spare_targets=part.spare,
    )


def _holds_pairs(config: PairsConfig) -> bool:
    try:
        return any(match(config).partners.values())
    except DataError:  # no image, or none that fits
        return False


def _images(folder: Path) -> dict[str, Path]:
    try:
        return image_files(folder)
    except DataError:  # no image at all
        return {}


def _missing(layout: Layout, split: str, root: Path) -> DataError:
    expected = "; or ".join(map(str, layout.forms(split)))
    return DataError(f"{layout.name}: no {split} images in {root}; expected {expected}. It comes from: {layout.source}")
