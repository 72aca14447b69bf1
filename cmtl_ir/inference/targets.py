"""Which image is restored into which file. Everything that would fail when the file is written is found here."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cmtl_ir.base.errors import UserError, brief
from cmtl_ir.base.files import check_folder
from cmtl_ir.tasks.images.decode import image_files

FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
    ".webp": "WEBP", ".ppm": "PPM", ".jp2": "JPEG2000",
}  # fmt: skip
"""Suffix of a target -> Pillow's name of its format."""
LOSSY = ("JPEG", "WEBP")
"""Formats that are written with a quality."""


@dataclass(frozen=True)
class Job:
    """One image to restore."""

    source: Path
    target: Path


def jobs_of(source: Path, target: Path, say: Callable[[str], None]) -> list[Job]:
    """Return what to restore, and into which files. A folder is read as training reads it, and keeps its structure.

    `say` is called with one line about source images whose names differ in their suffix alone. Raises UserError if
    there is no image, or if a target cannot be written, is its own source, or is the target of two images.
    """
    _check_name(target)
    jobs = _folder_jobs(source, target, say) if source.is_dir() else [_file_job(source, target)]
    for folder in sorted({job.target.parent for job in jobs}):
        check_folder(folder, str(folder))
    for job in jobs:
        if job.target.is_dir():
            raise UserError(f"{job.target} is a folder, and {job.source} would be written there; name another target")
        if job.target.exists() and job.target.samefile(job.source):
            raise UserError(f"{job.target} is the image that is to be restored; name another target")
    return jobs


def _check_name(target: Path) -> None:
    """Raise UserError for a name that no file can have."""
    try:
        os.stat(target)
    except (OSError, ValueError) as error:  # ValueError: a null byte
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise UserError(
                f"{str(target)[:80]!r}: no file can have this name ({brief(error)}); name another target"
            ) from error


def lossy_kind(files: list[Path]) -> str | None:
    """Return the lossy format in which files were written; `None` if all keep every level."""
    kinds = {FORMATS[file.suffix.lower()] for file in files}
    return next((kind for kind in LOSSY if kind in kinds), None)


def _file_job(source: Path, target: Path) -> Job:
    (file,) = image_files(source).values()
    if target.is_dir() or not target.suffix:
        return Job(file, target / f"{file.stem}.png")
    if target.suffix.lower() not in FORMATS:
        raise UserError(
            f"{target}: images cannot be written as {target.suffix}; end its name in {', '.join(FORMATS)}, or make a "
            "folder of that name first"
        )
    return Job(file, target)


def _folder_jobs(source: Path, target: Path, say: Callable[[str], None]) -> list[Job]:
    if target.is_file():
        raise UserError(f"{target} is a file, but {source} is a folder: name a folder to restore its images into")
    if target.suffix.lower() in FORMATS and not target.is_dir():
        raise UserError(f"{target} names one image, but {source} is a folder: name a folder, or restore one image")
    inside = target.resolve()
    files = {name: file for name, file in image_files(source).items() if inside not in file.resolve().parents}
    if inside == source.resolve():
        files = image_files(source)  # its own images are refused below, each by name
    if not files:
        raise UserError(f"{source}: holds no image except in {target}, into which images are restored")
    names = _target_names(list(files), say)
    return [Job(file, target / names[name]) for name, file in files.items()]


def _target_names(sources: list[str], say: Callable[[str], None]) -> dict[str, str]:
    """Source -> target, by name: the suffix becomes .png, or is kept before it where two images would share a name.

    Names that differ in upper and lower case alone are one file on some systems, and count as shared.
    """
    plain = {name: str(Path(name).with_suffix(".png")) for name in sources}
    shared = {name for name, count in Counter(there.casefold() for there in plain.values()).items() if count > 1}
    names = {
        name: f"{name}.png" if there.casefold() in shared and name != there else there for name, there in plain.items()
    }  # of a.png and a.jpg, the first stays a.png
    if renamed := [name for name in sources if names[name] != plain[name]]:
        say(f"{renamed[0]} and another image share a name: written as {names[renamed[0]]} ({len(renamed)} such images)")
    taken: dict[str, str] = {}
    for name, there in names.items():
        if other := taken.get(there.casefold()):
            raise UserError(f"{other} and {name} would both be written to {there}; rename one of them")
        taken[there.casefold()] = name
    return names
