"""The documentation site: what is assembled for it, and the tutorial."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from docs.site import __main__ as site
from docs.site.links import Broken, rewritten
from docs.site.modules import ROOT, modules, packages
from docs.site.notebook import CELL, notebook
from docs.site.reference import reference_pages, tree_page
from docs.site.tutorial import PAGE, executed

FEWER = {
    '"training.steps=300"': '"training.steps=6", "training.batch=3", "data.patch=16", "data.dead_leaves=0"',
    "warmup=30": "warmup=2",
    "every=25": "every=2",
    "crop=128": "crop=48",
}
"""What the tutorial trains -> what this test trains."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an assembled site."""
    return site.assemble(tmp_path_factory.mktemp("site")).parent


def entries(nav: Any) -> list[str]:
    """All pages of a navigation."""
    if isinstance(nav, str):
        return [nav]
    return [page for one in (nav.values() if isinstance(nav, dict) else nav) for page in entries(one)]


def test_the_navigation_has_every_page_once(home: Path) -> None:
    listed = entries(json.loads((home / "site.yml").read_text())["nav"])
    written = {path.relative_to(home / "pages").as_posix() for path in (home / "pages").rglob("*.md")}
    assert len(listed) == len(set(listed)) and set(listed) == written
    assert {"reproduced.md", "claims.md", "errors.md", "changelog.md", "benchmarks/results.md"} < written


def test_every_link_of_the_pages_leads_to_a_file_of_the_site(home: Path) -> None:
    for page in (home / "pages").rglob("*.md"):
        for address in re.findall(r"\]\(([^()#\s]+)", re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)):
            assert "://" in address or (page.parent / address).is_file(), f"{page.name}: {address}"


def test_links_of_the_repository_become_links_of_the_site() -> None:
    places, page = site.pages(), ROOT / "docs" / "strategy.md"
    given = "[a](../strategies/surgery/pcgrad.py) [`b`](run.md#x) [c](../run) `[d](no.md)` [e](https://x.org) [f](#g)"
    assert rewritten(given, page, "strategy.md", places) == (
        "[a](reference/strategies.surgery.md#cmtl_ir.strategies.surgery.pcgrad) [`b`](run.md#x) c `[d](no.md)` "
        "[e](https://x.org) [f](#g)"
    )
    assert rewritten("[a](docs/run.md)", ROOT / "README.md", "sub/readme.md", places) == "[a](../run.md)"
    with pytest.raises(Broken, match=r"docs/strategy\.md: the link no\.md leads to nothing"):
        rewritten("[a](no.md)", page, "strategy.md", places)


def test_every_public_module_is_in_the_reference_and_every_file_in_the_tree() -> None:
    shown = re.findall(r"^::: (\S+)$", "\n".join(reference_pages().values()), re.MULTILINE)
    public = {one.name for one in modules() if not one.is_package and not one.is_private}
    own = {f"cmtl_ir.{name}" for name in ("evaluate", "load", "load_model", "register", "restore", "run")}
    assert len(shown) == len(set(shown))
    assert set(shown) == own | {name for name in public if not name.startswith("cmtl_ir.cli.")}
    rows = re.findall(r"^\| .*`(\w+\.py)`.* \| (.+) \|$", tree_page(), re.MULTILINE)
    assert len(rows) == len(modules()) - len(packages()) and all(one.summary for one in modules())


def test_the_gallery_has_every_figure_of_the_report() -> None:
    figures = {path.name for path in (ROOT / "docs" / "quickstart" / "figures").glob("*.png")}
    shown = re.findall(r"\(quickstart/figures/([\w.]+)\)", (ROOT / "docs" / "gallery.md").read_text())
    assert sorted(shown) == sorted(figures)


def test_the_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps: the same words, with other numbers."""
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text()
    assert all(old in page for old in FEWER)
    for found, printed in zip(CELL.finditer(page), executed(page, FEWER), strict=True):
        assert without_numbers(printed) == without_numbers(found["printed"] or "")
    for name in re.findall(r"\]\(tutorial/([\w.]+)\)", page):
        assert (tmp_path / name).is_file() and (PAGE.with_suffix("") / name).is_file()


def without_numbers(text: str) -> list[str]:
    return re.sub(r"-?\d[\d,.]*", "N", text).split()


def test_the_notebook_is_the_tutorial() -> None:
    """In the form that Jupyter reads, with the cells of the page."""
    text = PAGE.with_suffix(".ipynb").read_text()
    assert text == notebook(PAGE.read_text()), "python -m docs.site.tutorial"
    cells = json.loads(text)["cells"]
    codes = ["".join(one["source"]) for one in cells if one["cell_type"] == "code"]
    assert codes == [found["code"].rstrip() for found in CELL.finditer(PAGE.read_text())]
    assert len({one["id"] for one in cells}) == len(cells)
