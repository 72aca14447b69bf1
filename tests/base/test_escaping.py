"""Labels are shown as they are in every format: an independent reader of the format gets the label back as text."""

from __future__ import annotations

import csv
import html
import io
import re

import pytest
from markdown_it import MarkdownIt
from rich.table import Table
from rich.text import Text

from cmtl_ir.analysis.tables import formats
from cmtl_ir.analysis.tables.formats import Cell
from cmtl_ir.base import escaping
from cmtl_ir.cli.terminal import Terminal

HOSTILE = [
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", " =1", "-0.5", "a|b", "a\nb", "a\r\n\nb|", "`code`", "a`b", "```",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[x](http://e.com)", "![x](y)", "[x]: y", "**b**",
    "_a_", "a_b_c", "~~s~~", "$x$", "\\", "a\\", "\\|", "\\*a", "&lt;", "a&b", "# head", "> quote", "1. one", "- item",
    "---", "===", "{a}", "50%", "[5pt]", "*", "a--b", "tab\there", "\x1b[31mred", "[red]red[/red]", "[/]", "é – ü",
]  # fmt: skip
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")


def shown(label: str) -> str:
    return " ".join(label.replace("\x1b", " ").split())


@pytest.mark.parametrize("label", HOSTILE)
def test_markdown_shows_the_label(label: str) -> None:
    table = formats.Table(
        "t", label, ["strategy", label], [[Cell(label), Cell(label, style="better")]], [label], words=2
    )
    page = MARKDOWN.render(formats.markdown(table))
    body = re.findall(r"<t[hd][^>]*>(?:<strong>)?(.*?)(?:</strong>)?</t[hd]>", page)
    assert [shown(html.unescape(cell)) for cell in body] == ["strategy", shown(label), shown(label), shown(label)]
    (title,), (note,) = re.findall(r"<h3>(.*)</h3>", page), re.findall(r"<li>(.*)</li>", page)
    assert shown(html.unescape(title)) == shown(label)
    assert shown(html.unescape(note.replace("<code>", "`").replace("</code>", "`"))) == shown(label)


@pytest.mark.parametrize("label", HOSTILE)
def test_a_block_of_code_ends_where_it_should(label: str) -> None:
    page = MARKDOWN.render(f"{escaping.markdown_code(f'a: 1{chr(10)}{label}{chr(10)}', 'yaml')}\n\nafter")
    assert page.count("<pre>") == 1 and page.endswith("</code></pre>\n<p>after</p>\n")


@pytest.mark.parametrize("label", HOSTILE)
def test_a_spreadsheet_sees_no_formula(label: str) -> None:
    text = escaping.csv_text([[label, -0.5, None, 3]])
    ((cell, *others),) = csv.reader(io.StringIO(text))
    assert others == ["-0.5", "", "3"] and text.count("\n") == 1
    assert shown(cell.removeprefix("'")) == shown(label)
    assert cell.lstrip()[:1] not in ("=", "+", "-", "@") or cell == "-0.5"


@pytest.mark.parametrize("label", HOSTILE)
def test_the_terminal_shows_the_label_and_obeys_none(label: str) -> None:
    console = Terminal()
    table = Table(label, title=label)
    table.add_row(label)
    with console.capture() as printed:
        console.print(label, soft_wrap=True)
        console.print(table)
    said, wanted = printed.get(), [part.strip() for part in label.replace("\x1b", "\\x1b").splitlines()]
    assert all(said.count(part) >= 4 for part in wanted if part and "\t" not in part), said
    assert "\x1b" not in said


LATEX = {
    "a|b_c": r"a\textbar{}b\_c",
    "50% & {x}": r"50\% \& \{x\}",
    "[5pt]": "{[}5pt]",
    "*": "{*}",
    "a--b": "a-{}-b",
    "a – b": "a -- b",
    "`q`": r"\`{}q\`{}",
    "a\nb": "a b",
    "\\input{x}": r"\textbackslash{}input\{x\}",
    "-1.5": "$-$1.5",
    "$x^2$~#": r"\$x\textasciicircum{}2\$\textasciitilde{}\#",
    "<b>": "$<$b$>$",
}


@pytest.mark.parametrize("label", LATEX)
def test_latex_shows_the_label(label: str) -> None:
    assert escaping.latex(label) == LATEX[label]


@pytest.mark.parametrize("label", HOSTILE)
def test_latex_keeps_one_row_a_line_and_no_command_of_a_label(label: str) -> None:
    table = formats.latex(formats.Table("t", label, ["strategy", label], [[Cell(label), Cell(label)]], [label]))
    assert len(table.splitlines()) == len(formats.latex(formats.Table("t", "a", ["a"], [[Cell("a")]])).splitlines())
    ours = r"\\(?:textbackslash|textasciitilde|textasciicircum|textbar|`)\{\}|\\[&%$#_{}]|\$[^$]*\$|\{[\[*]\}|-\{\}"
    plain = re.sub(ours, "", escaping.latex(label))
    assert not re.search(r"[\\{}$&#^_%~`|]", plain) and not escaping.latex(label).startswith(("[", "*"))


def test_text_with_a_style_is_printed_with_it() -> None:
    console = Terminal()
    with console.capture() as printed:
        console.print(Text.assemble(("[b]name[/b]", "bold"), " [x]"))
    assert printed.get() == "[b]name[/b] [x]\n"
