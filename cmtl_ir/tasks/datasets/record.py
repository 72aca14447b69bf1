"""How a published data set lies on disk, as data: its splits, the folders and names of each, what its authors counted.

A place is one path pattern below the set's folder: `train/{scene}/blur/{frame}`. The folders before the first `{word}`
or `*` are looked for as they stand (letter case aside); what follows is a name pattern as in `input_name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TRAIN, TEST, ALL = "train", "test", "all"


@dataclass(frozen=True)
class Form:
    """One of the ways in which a split is found on people's disks."""

    clean: str
    """Place of the clean images."""
    degraded: str | None = None
    """Place of the degraded images; None for a set of clean images alone."""

    def __str__(self) -> str:
        return self.clean if self.degraded is None else f"{self.degraded} with {self.clean}"


@dataclass(frozen=True)
class Part:
    """One split."""

    count: int | None
    """Images, or pairs, as published; None where it is not known for certain."""
    forms: tuple[Form, ...]
    """The first whose folders hold fitting images is taken."""
    centre: bool = False
    """The larger image of a pair is cut about its centre."""
    spare: bool = False
    """Its clean folder serves other splits too, so clean images without a partner are no fault."""
    without: tuple[str, ...] = ()
    """Name patterns, in both folders, of what belongs to another split."""


@dataclass(frozen=True)
class Layout:
    """One data set: a row of the table."""

    name: str
    kind: str
    """`clean`, or what the degraded images suffer from."""
    folder: str
    """Its folder below `data.root`."""
    source: str
    """The paper and where its authors publish the set. cmtl-ir downloads nothing."""
    terms: str
    """What its authors allow, in short; their page decides."""
    splits: Mapping[str, Part]
    """`train`, `val`, `test`; `all` where no split was published; and finer ones."""

    @property
    def paired(self) -> bool:
        """Degraded images with clean partners, not clean images alone."""
        return self.kind != "clean"

    def forms(self, split: str) -> tuple[Form, ...]:
        """Where a split may lie: in its own ways, then as MPRNet, Restormer and their heirs arrange every set."""
        if not self.paired:
            return self.splits[split].forms
        return self.splits[split].forms + _arranged(f"{split}/") + (_arranged("") if split in (TEST, ALL) else ())


def _arranged(folder: str) -> tuple[Form, ...]:
    return tuple(Form(f"{folder}{side}/{{name}}", f"{folder}input/{{name}}") for side in ("target", "gt"))


def place(pattern: str) -> tuple[str, str]:
    """`train/rain/{name}x2` -> its folder and its name pattern, ("train/rain", "{name}x2")."""
    steps = pattern.split("/")
    fixed = next(number for number, step in enumerate(steps) if "{" in step or "*" in step)
    return "/".join(steps[:fixed]), "/".join(steps[fixed:])


# ----------------------------------------------------------------------------------- how rows of the table are written


def row(name: str, kind: str, folder: str, source: str, terms: str, **splits: Part) -> Layout:
    """A row with its splits as keywords."""
    return Layout(name, kind, folder, source, terms, splits)


def images(count: int | None, *places: str) -> Part:
    """A split of clean images: its published count and the places where it may lie."""
    return Part(count, tuple(Form(one) for one in places))


def pairs(
    count: int | None, *forms: str, centre: bool = False, spare: bool = False, without: tuple[str, ...] = ()
) -> Part:
    """A split of pairs: its published count and its forms, written `DEGRADED > CLEAN`."""
    sides = [form.split(" > ") for form in forms]
    return Part(count, tuple(Form(clean, degraded) for degraded, clean in sides), centre, spare, without)
