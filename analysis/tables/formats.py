"""Tables and their formats: Markdown, LaTeX (booktabs), and CSV with full precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cmtl_ir.base import escaping
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.measures.statistics import Interval

Style = Literal["", "better", "worse"]


@dataclass(frozen=True)
class Cell:
    """One cell: its text, and the number that it is sorted by and that the CSV holds."""

    text: str
    value: float | None = None
    low: float | None = None
    """Lower end of the 95 % interval, or `None` if there is no interval. `high` is its upper end."""
    high: float | None = None
    style: Style = ""
    """`better` is set in bold, `worse` in italics. Only a significant difference has a style."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under headings, with the notes that explain them."""

    name: str
    """File name."""
    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    words: int = 1
    """Number of leading columns of words, which are aligned left. The other columns are aligned right."""


NOTHING = Cell("–")


def table_name(kind: str, scale: Scale) -> str:
    """Return the file name of a table or figure of a metric. That of PSNR has no suffix."""
    return kind if scale == PSNR else f"{kind}_{scale.name}"


def number(value: float | None, digits: int = 2, style: Style = "") -> Cell:
    """Return the cell of a number, or a dash if it is `None` or not finite."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return Cell(f"{value:,.{digits}f}", float(value) if digits else round(value), style=style)


def seeds_cell(count: int) -> Cell:
    """Return the cell of a number of seeds. A single seed is marked in words."""
    return Cell("1 (one seed)" if count == 1 else str(count), count)


def with_interval(found: Interval | None, digits: int = 2, style: Style = "") -> Cell:
    """Return the cell `28.31 ± 0.12`: mean and half-width of the 95 % interval. Without an interval, only the mean."""
    if found is None or not math.isfinite(found.estimate):
        return NOTHING
    if not math.isfinite(found.low):
        return number(found.estimate, digits, style)
    half = (found.high - found.low) / 2
    text = f"{found.estimate:,.{digits}f} ± {half:,.{digits}f}"
    return Cell(text, found.estimate, found.low, found.high, style)


def with_ends(found: Interval, digits: int = 2, style: Style = "") -> Cell:
    """Return the cell `0.31 [0.19, 0.44]`, for intervals that need not be symmetric."""
    if not math.isfinite(found.low):
        return number(found.estimate, digits, style)
    text = f"{found.estimate:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
    return Cell(text, found.estimate, found.low, found.high, style)


def p_cell(value: float) -> Cell:
    """Return the cell of a p-value, or a dash if nothing was tested."""
    if math.isnan(value):
        return NOTHING
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)


# ------------------------------------------------------------------------------------------------------ writing


def markdown(table: Table) -> str:
    """Return a Markdown table with title and notes."""
    marks = {"": "", "better": "**", "worse": "*"}
    rule = ["---"] * table.words + ["---:"] * (len(table.headings) - table.words)
    lines = [_line(map(escaping.markdown, table.headings)), _line(rule)]
    for row in table.rows:
        lines.append(_line(marks[cell.style] + escaping.markdown(cell.text) + marks[cell.style] for cell in row))
    notes = [f"- {escaping.markdown_paragraph(note, code=True)}" for note in table.notes]
    return "\n".join([f"### {escaping.markdown_paragraph(table.title)}", "", *lines, "", *notes]).rstrip() + "\n"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def latex(table: Table) -> str:
    r"""Return a LaTeX `table` with booktabs rules, which needs \usepackage{booktabs}."""
    commands = {"better": r"\textbf{%s}", "worse": r"\emph{%s}"}
    body = [
        " & ".join(commands.get(cell.style, "%s") % escaping.latex(cell.text) for cell in row) + r" \\"
        for row in table.rows
    ]
    columns = "l" * table.words + "r" * (len(table.headings) - table.words)
    caption = escaping.latex(" ".join([f"{table.title}.", *(note.rstrip(".") + "." for note in table.notes)]))
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(map(escaping.latex, table.headings)) + r" \\",
        r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def comma_separated(table: Table) -> str:
    """Return CSV text: words as they are, other columns as numbers, followed by the ends of their intervals if any."""
    has_ends = [any(row[i].low is not None for row in table.rows) for i in range(len(table.headings))]
    headings: list[str] = []
    for place, heading in enumerate(table.headings):
        headings += [heading, f"{heading} low", f"{heading} high"] if has_ends[place] else [heading]
    rows: list[Sequence[object]] = [headings]
    for row in table.rows:
        cells: list[object] = []
        for place, cell in enumerate(row):
            plain = cell.text if place < table.words else cell.value
            plain = cell.text if plain is None and cell is not NOTHING else plain
            cells += [plain, cell.low, cell.high] if has_ends[place] else [plain]
        rows.append(cells)
    return escaping.csv_text(rows)
