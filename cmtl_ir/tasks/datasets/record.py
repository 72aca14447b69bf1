"""The layout of a published data set as data: its splits, their folders and file names, and the published counts.

A place is one path pattern below the folder of the set: `train/{scene}/blur/{frame}`. The folders before the first
`{word}` or `*` are matched literally except for letter case. The rest is a name pattern as in `input_name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRAIN, TEST, ALL = "train", "test", "all"


@dataclass(frozen=True)
class Form:
    """One arrangement of the files of a split, as people store them."""

    clean: str
    """Place of the clean images."""
    degraded: str | None = None
    """Place of the degraded images. `None`: the set has clean images alone."""

    def __str__(self) -> str:
        return self.clean if self.degraded is None else f"{self.degraded} with {self.clean}"


@dataclass(frozen=True)
class Part:
    """One split."""

    count: int | None
    """Published number of images or pairs. `None`: not known for certain."""
    forms: tuple[Form, ...]
    """Arrangements to look for; the first whose folders hold matching images is used."""
    centre: bool = False
    """Whether the larger image of a pair is cut about its centre."""
    spare: bool = False
    """Whether its clean folder serves other splits too, so that clean images without a partner are accepted."""
    without: tuple[str, ...] = ()
    """Name patterns, in both folders, of images that belong to another split."""


@dataclass(frozen=True)
class Layout:
    """One data set: a row of the table."""

    name: str
    kind: str
    """`clean`, or the kind of degradation."""
    folder: str
    """Folder of the set below `data.root`."""
    source: str
    """The paper, and where its authors publish the set. cmtl-ir downloads nothing."""
    terms: str
    """Short form of the terms of use; the page of the authors decides."""
    splits: Mapping[str, Part]
    """`train`, `val`, `test`, `all` if no split was published, and finer splits."""

    @property
    def paired(self) -> bool:
        """Whether the set has degraded images with clean partners."""
        return self.kind != "clean"

    def forms(self, split: str) -> tuple[Form, ...]:
        """Return the arrangements of a split: its own, then that of MPRNet, Restormer and their successors."""
        if not self.paired:
            return self.splits[split].forms
        return self.splits[split].forms + _arranged(f"{split}/") + (_arranged("") if split in (TEST, ALL) else ())


def _arranged(folder: str) -> tuple[Form, ...]:
    return tuple(Form(f"{folder}{side}/{{name}}", f"{folder}input/{{name}}") for side in ("target", "gt"))


def place(pattern: str) -> tuple[str, str]:
    """Split a place into its folder and its name pattern: `train/rain/{name}x2` -> ("train/rain", "{name}x2")."""
    steps = pattern.split("/")
    fixed = next(number for number, step in enumerate(steps) if "{" in step or "*" in step)
    return "/".join(steps[:fixed]), "/".join(steps[fixed:])


# ----------------------------------------------------------------------------------- how rows of the table are written


def row(name: str, kind: str, folder: str, source: str, terms: str, **splits: Part) -> Layout:
    """Make a row of the table, with its splits as keywords."""
    return Layout(name, kind, folder, source, terms, splits)


def images(count: int | None, *places: str) -> Part:
    """Make a split of clean images from its published count and its possible places."""
    return Part(count, tuple(Form(one) for one in places))


def pairs(
    count: int | None, *forms: str, centre: bool = False, spare: bool = False, without: tuple[str, ...] = ()
) -> Part:
    """Make a split of pairs from its published count and its forms, written `DEGRADED > CLEAN`."""
    sides = [form.split(" > ") for form in forms]
    return Part(count, tuple(Form(clean, degraded) for degraded, clean in sides), centre, spare, without)
