"""Claims about the page, in a real browser: it needs nothing else, sorts, and fits a phone."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from cmtl_ir.analysis import report
from cmtl_ir.analysis.data.frames import Frames
from tests.analysis import forged
from tests.analysis.browser import Browser, chromium

needs_browser = pytest.mark.skipif(chromium() is None, reason="no chromium is installed")
COLUMN = "[...document.querySelectorAll('#table-psnr tbody tr')].map(row => row.cells[{}].textContent.trim())"
STATE = "[...document.querySelectorAll('#table-psnr th[aria-sort]')].map(head => head.getAttribute('aria-sort'))"


@pytest.fixture(scope="module")
def page(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the trained comparison."""
    made = report.write(Frames.of_folder(trained), tmp_path_factory.mktemp("page") / "report")
    return made.folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


def test_the_page_is_one_file(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"""(?:src|href)=["']([^"']{1,60})""", text)
    assert links and all(one.startswith(("data:", "#")) for one in links), links
    assert "@import" not in text and "url(" not in text


@needs_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_said_on_the_console_and_nothing_overflows(page: Path, browser: Browser, width: int) -> None:
    browser.console.clear(), browser.requests.clear()
    browser.open(page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
    wide += " && !e.closest('.scroll') && !e.closest('pre')).map(e => e.outerHTML.slice(0, 80))"
    assert browser.evaluate(wide) == []
    assert browser.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length") == 0
    assert browser.console == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests)


@needs_browser
def test_a_click_on_a_heading_sorts_by_number_and_back(page: Path, browser: Browser) -> None:
    browser.open(page, 1440)
    before = browser.evaluate(COLUMN.format(2))
    values = [float(text.split()[0]) for text in before]
    button = "document.querySelectorAll('#table-psnr th button')[2].click()"
    browser.evaluate(button)
    after = [float(text.split()[0]) for text in browser.evaluate(COLUMN.format(2))]
    names = browser.evaluate(COLUMN.format(0))
    assert names[0] == "(degraded input)" and names[-1] == "(single-task runs)"  # no strategies: they stay
    assert after[1:-1] == sorted(values[1:-1]) and after != values
    assert browser.evaluate(STATE) == ["ascending"]
    browser.evaluate(button)
    assert [float(text.split()[0]) for text in browser.evaluate(COLUMN.format(2))][1:-1] == sorted(values[1:-1])[::-1]
    assert browser.evaluate(STATE) == ["descending"]


@needs_browser
def test_the_keyboard_alone_reaches_and_sorts_a_table(page: Path, browser: Browser) -> None:
    browser.open(page, 1440)
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.className") == "skip"
    browser.evaluate("document.querySelectorAll('#table-psnr th button')[0].focus()")
    browser.press("Enter", 13)
    names = browser.evaluate(COLUMN.format(0))[1:-1]
    assert names == sorted(names) and browser.evaluate(STATE) == ["ascending"]
    scrolling = "[...document.querySelectorAll('.scroll')].every(box => box.tabIndex === 0 && box.ariaLabel)"
    assert browser.evaluate(scrolling) is True


LABELS = ["=1+1 a<b>&c|d", "-x\ny `t`", "@<script>alert(1)</script>", "_u $a$ [i](j) ```"]


def test_labels_that_look_like_markup_or_formulas_are_text(tmp_path: Path) -> None:
    final = {(label, 0): {"noise": 26.0 + place, "rain": 25.0} for place, label in enumerate(LABELS)}
    made = report.write(Frames.of_folder(forged.comparison(tmp_path, final)), tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in page and "<script>alert" not in page and page.count("<script>") == 1
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render((made.folder / "report.md").read_text())
    assert "<script" not in rendered and "<b>" not in rendered and "<a " not in rendered
    tables = re.findall(r"<table>(.*?)</table>", rendered, re.DOTALL)
    cells = [
        [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in tables[0].split("<tr>")
    ]
    shown = [" ".join(label.split()) for label in LABELS]
    assert [html.unescape(row[0]) for row in cells if len(row) == 5] == ["(degraded input)", *shown]
    for file in (made.folder / "tables").glob("*.csv"):
        for row in csv.reader(file.read_text().splitlines()):
            assert not any(cell.startswith(("=", "+", "@")) or re.match(r"-[^\d.]", cell) for cell in row), (file, row)


def test_what_is_missing_and_what_is_not_comparable_is_on_the_page(tmp_path: Path) -> None:
    final = {("joint", 0): {"noise": 26.0, "rain": 25.0}, ("pcgrad", 0): {"noise": 26.5, "rain": 25.0},
             ("dwa", 0): {"noise": 25.0, "rain": 25.0}}  # fmt: skip
    folder = forged.comparison(
        tmp_path, final, identities={("pcgrad", 0): {"protocol": "matlab_y"}}, unfinished=[("dwa", 0)]
    )
    made = report.write(Frames.of_folder(folder), tmp_path / "report")
    assert [path.name for path in made.pages] == ["report.md", "report.html"]
    for text in (path.read_text() for path in made.pages):
        assert "Not ranked" in text and "metric protocol differ" in text
        assert "unfinished: dwa (seed 0)" in text and "No single-task reference for noise (seed 0)" in text
        assert "Significantly" not in text and "has the highest mean" not in text
