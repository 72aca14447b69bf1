"""Assemble the pages of the site in build/pages, and its configuration in build/site.yml; `./run site` builds it.

The pages are those of docs/ and OUTSIDE, with their links turned into links of the site, and those that are made from
docstrings. The headings of docs/index.md are the sections of the navigation, and the links below them its pages.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from .links import Broken, rewritten
from .modules import ROOT
from .reference import reference_nav, reference_pages, tree_page

DOCS = ROOT / "docs"
SITE = DOCS / "site"
OUTSIDE = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "tests/benchmarks/RESULTS.md": "benchmarks/results.md",
    "tests/benchmarks/REGIME.md": "benchmarks/regime.md",
    "tests/benchmarks/resolution.md": "benchmarks/resolution.md",
}
"""File of the repository -> page."""
RENAMED = {"quickstart/report.html": "quickstart/whole-report.html"}
"""Files of docs/ whose name a page of the site has."""
TREE = "tree.md"


def pages() -> dict[Path, str]:
    """Return file of the repository -> its place on the site."""
    own = [path for path in sorted(DOCS.rglob("*")) if path.is_file() and SITE not in path.parents]
    look = sorted((SITE / "look").iterdir())
    found = {path: path.relative_to(DOCS).as_posix() for path in own}
    found |= {path: path.relative_to(SITE).as_posix() for path in look}
    return {path: RENAMED.get(name, name) for path, name in found.items()} | {
        ROOT / name: page for name, page in OUTSIDE.items()
    }


def navigation() -> list[Any]:
    """Return the sections of docs/index.md, the reference, and the project's own pages."""
    _, *sections = re.split(r"^## (.*)\n", (DOCS / "index.md").read_text(), flags=re.MULTILINE)
    jobs = [
        {title: [{words: page} for words, page in re.findall(r"\[([^]]+)\]\(([^()#]+\.md)\)", text)]}
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    ]
    readme, *others = OUTSIDE.values()
    project = {"Project": [{"README": readme}, *others]}
    return [{"Home": "index.md"}, *jobs, {"Reference": [TREE, *reference_nav()]}, project]


def assemble(home: Path) -> Path:
    """Write `home`/pages and `home`/site.yml, and return the latter. Raises Broken for a link to nothing."""
    folder = home / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    places = pages()
    for path, name in places.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            place.write_text(rewritten(path.read_text(), path, name, places))
        else:
            shutil.copyfile(path, place)
    for name, text in {**reference_pages(), TREE: tree_page()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    settings = {
        "INHERIT": str(SITE / "mkdocs.yml"),
        "docs_dir": "pages",
        "site_dir": "site",
        "nav": navigation(),
    }
    file = home / "site.yml"
    file.write_text(json.dumps(settings, indent=2))  # JSON is YAML
    return file


if __name__ == "__main__":
    try:
        assemble(ROOT / "build")
    except Broken as error:
        sys.exit(str(error))
