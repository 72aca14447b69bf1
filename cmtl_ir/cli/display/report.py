"""Terminal output on reports and on comparisons of two runs. Nothing is computed here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cmtl_ir.cli.display import console, say

if TYPE_CHECKING:
    from cmtl_ir.analysis.data.significance import Verdict
    from cmtl_ir.analysis.pair import Pair
    from cmtl_ir.analysis.report import Report
    from cmtl_ir.measures.scale import Scale
    from cmtl_ir.measures.seeds import SeedDifference


def report(made: Report) -> None:
    """Print the summary, the warnings and the paths of a report."""
    for line in made.summary:
        say(line)
    for line in made.warnings:
        say(f"! {line}")
    say("look at:")
    for page in made.pages:
        say(f"  {page}")
    say(f"  {len(made.figures)} figures (PNG, PDF, SVG) in {made.folder / 'figures'}")
    say(f"  tables (Markdown, LaTeX, CSV) in {made.folder / 'tables'}")
    if made.logged:
        say(f"  {made.logged}")


def compared(pair: Pair) -> None:
    """Print tasks, measures and differing fields. Differences of scores are printed only for comparable runs."""
    from cmtl_ir.analysis.verdicts import ONE_SEED

    for side, name, seeds in zip("AB", pair.names, pair.seeds, strict=True):
        say(f"{side}: {name} ({_seeds(seeds)})")
    for name, seeds in zip(pair.names, pair.left_out, strict=True):
        if seeds:
            say(f"left out: {_seeds(seeds)} of {name}, which the other side does not have")
    for reason in pair.reasons:
        say(f"! not comparable: {reason}")
    for scale, rows in pair.scores.items():
        _scores(scale, rows, pair)
        if (found := pair.over_seeds[scale].get(rows[-1][0])) is not None:
            one, other = (name.rpartition("/")[2] for name in pair.names)
            over = f"{other} - {one} over {_seeds(found.seeds)}, {rows[-1][0]} {scale.heading}"
            say(f"{over}: {found.difference.estimate:+.{scale.digits}f} {_over_seeds(found, scale)}")
    if len(pair.seeds[0]) == 1 and not pair.reasons:
        say(ONE_SEED)
    _rows("measure", [(name, _short(one), _short(other)) for name, one, other in pair.others])
    _rows("made of", pair.made_of)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _scores(scale: Scale, rows: list[tuple[str, float, float, float]], pair: Pair) -> None:
    title = scale.heading if scale.higher_is_better else f"{scale.heading}, lower is better"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("task", no_wrap=True)
    for column in ("input", "A", "B", *(() if pair.reasons else ("B - A",))):
        table.add_column(column, justify="right", no_wrap=True)
    seeds = pair.over_seeds[scale]
    for column in (*(["over seeds"] if seeds else []), *([] if pair.reasons else ["over these images, these weights"])):
        table.add_column(column, overflow="fold")
    for task, floor, one, other in rows:
        cells = [scale.text(value) for value in (floor, one, other)]
        if not pair.reasons:
            cells.append(f"{other - one:+.{scale.digits}f}")
            cells += [_over_seeds(seeds[task], scale)] if seeds else []
            cells.append(_verdict(pair.verdicts[scale].get(task)))
        table.add_row(task, *cells)
    console.print(table)


def _over_seeds(found: SeedDifference, scale: Scale) -> str:
    from cmtl_ir.analysis.tables.resolution import style_of

    if found.reason:
        return found.reason
    ends, style = found.difference, style_of(found, scale)
    word = f"significantly {style}" if style else "not significant"
    return (
        f"[{ends.low:+.{scale.digits}f}, {ends.high:+.{scale.digits}f}], {word}, p = {found.p_holm:.3g} (t-test, "
        f"Holm), {len(found.seeds)} seeds, which detect {found.detectable:.{scale.digits}f}"
    )


def _rows(title: str, rows: list[tuple[str, str, str]]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column(title, no_wrap=True)
    for column in ("A", "B"):
        table.add_column(column, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _verdict(found: Verdict | None) -> str:
    if found is None:
        return ""
    if found.test.reason:
        return found.test.reason
    ends = found.difference
    digits = found.scale.digits
    span = f"[{ends.low:+.{digits}f}, {ends.high:+.{digits}f}], " if math.isfinite(ends.low) else ""
    word = f"significantly {found.style}" if found.style else "not significant"
    return f"{span}{word}, p = {found.test.p_holm:.3g} (Wilcoxon, Holm), {ends.n} images"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
