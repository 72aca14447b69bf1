"""Citations: the entries of papers.bib, and that of the suite itself."""

from __future__ import annotations

import re
from importlib.resources import files

from cmtl_ir.base.version import __version__

SUITE = """@software{{cmtl_ir,
  author = {{{{The cmtl-ir authors}}}},
  title = {{cmtl-ir: learning strategies for all-in-one image restoration, compared}},
  version = {{{version}}},
}}"""
NAMES = re.compile(r"  names = \{(.*)\},\n")


def bibtex(family: str, name: str) -> str:
    """Return BibTeX of the papers behind `family/name`, if any are known, and of this suite."""
    wanted = f"{family}/{name}"
    papers = [NAMES.sub("", entry) for entry, names in entries() if wanted in names]
    return "\n\n".join([*papers, SUITE.format(version=__version__)])


def entries() -> list[tuple[str, tuple[str, ...]]]:
    """Return (entry, the names that it is cited for), in the order of papers.bib."""
    text = files("cmtl_ir").joinpath("papers.bib").read_text(encoding="utf-8")
    found = [entry.strip() for entry in text.split("\n\n") if entry.startswith("@")]
    return [(entry, _names(entry)) for entry in found]


def _names(entry: str) -> tuple[str, ...]:
    match = NAMES.search(entry)
    return tuple(match[1].split(", ")) if match else ()
