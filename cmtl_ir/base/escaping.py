"""Escaping of text for the formats that results are written in: a label is shown as it is, and never acts as markup.

Markdown, LaTeX and CSV have one owner each in this file. HTML pages are escaped by Jinja (`autoescape`), and what is
printed by the console of `cmtl_ir.cli.terminal`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Return text in one line: a run of line breaks and other control characters becomes a space."""
    return _BREAKS.sub(" ", text).strip()


def printable(text: str) -> str:
    r"""Return text for a terminal, with control characters shown as in `\x1b`. Line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


# ------------------------------------------------------------------------------------------------------ Markdown

_MARKUP = re.compile(
    r"[`*$~]"
    r"|\\(?=[!-/:-@\[-`{-~]|$)"  # a backslash that would escape what follows
    r"|<(?=[A-Za-z/!?])"  # the start of a tag
    r"|&(?=#?\w+;)"  # of an entity
    r"|\](?=[(\[])"  # of the target of a link or an image
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # underscores within words emphasize nothing
)
_BLOCK = re.compile(
    r"^(\d+)(?=[.)](?:\s|$))"  # an item of a numbered list
    r"|^(?=[#>=]|[+-](?:[\s-]|$)|\[[^\]]*\]:)"  # a heading, quote, item, rule, or the definition of a link
)


def markdown(text: str) -> str:
    """Return one line of Markdown that shows `text` as it is, also in a table cell. It must not start a paragraph."""
    return _inline(one_line(text)).replace("|", r"\|")


def _inline(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text)


def markdown_paragraph(text: str, code: bool = False) -> str:
    """Return a paragraph of Markdown that shows `text`. With `code`, its parts between backticks are code."""
    parts = re.split(r"(`[^`]+`)", one_line(text)) if code else [one_line(text)]
    shown = "".join(part if place % 2 else _inline(part) for place, part in enumerate(parts))
    return _BLOCK.sub(lambda found: f"{found[1] or ''}\\", shown, count=1)


def markdown_code(text: str, language: str = "") -> str:
    """Return a fenced block of code. The fence is longer than any run of backticks in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


# --------------------------------------------------------------------------------------------------------- LaTeX

_SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
            "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "\0",
            "Δ": r"$\Delta$", "≤": r"$\le$", "<": "$<$", ">": "$>$", "σ": r"$\sigma$", "×": r"$\times$",
            "|": r"\textbar{}", "`": r"\`{}"}  # fmt: skip


def latex(text: str) -> str:
    r"""Return LaTeX text that shows `text`. It may follow `\\`, whose arguments it is not taken for."""
    escaped = "".join(_SPECIAL.get(letter, letter) for letter in one_line(text))
    escaped = re.sub(r"-(?=-)", "-{}", escaped).replace("\0", "--")  # two hyphens are no dash
    escaped = re.sub(r"(?<![\w}-])-(?=[\d.])", "$-$", escaped)  # a minus, not a hyphen
    return re.sub(r"^([\[*])", r"{\1}", escaped)


# ----------------------------------------------------------------------------------------------------------- CSV

_FORMULA = ("=", "+", "-", "@")


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return CSV text with one line per row. `None` is an empty cell; no cell of text is a formula to a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([_csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _csv_cell(value: object) -> object:
    """Return a number as it is, and text in one line, with an apostrophe before the sign that starts a formula."""
    if not isinstance(value, str):
        return "" if value is None else value
    text = one_line(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
