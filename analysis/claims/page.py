"""The page of claims: one row per claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cmtl_ir.measures.statistics import Interval

from .judging import Claim, Judged, judged, read_claims
from .results import Results
from .tables import tables

CLAIMS = "claims.yaml"
HEAD = """# Claims of papers, measured here

Made by `python -m cmtl_ir.analysis.claims > docs/claims.md` from the list of claims and the stored results in
`claims/`. To add a row, run the command, store its results with `python -m cmtl_ir.analysis.claims collect
COMPARISON`, and add the claim to `claims/claims.yaml`.

The effect is the mean over seeds of the difference in the second column, paired by seed (same images, data order and
initial weights), with its 95 % t-interval. *Holds here*: the interval lies on the side that the claim says. *Fails
here*: it lies on the other side, or excludes every difference that would matter (the smallest one is given as "at
least"). *Not resolved*: it does neither; in brackets, the smallest difference that these seeds detect with 80 %
power. *Not measured*: the results are not stored. "Here" means these tasks, images, networks and training budgets.
Each interval stands by itself: of twenty effects that are zero, one is expected to exclude zero.
"""
WORDS = {
    "higher": "higher", "lower": "lower", "not_lower": "not lower", "not_higher": "not higher", "differs": "different",
    "equal": "equal",
}  # fmt: skip


def page_of(folder: Path) -> str:
    """Return the page of the claims and results in a folder. Raise UserError if one of its files is malformed."""
    claims = read_claims(folder / CLAIMS)
    studies = {file.stem: Results.read(file) for file in sorted(folder.glob("*.csv"))}
    return page([judged(claim, studies) for claim in claims]) + tables(claims, studies)


def page(rows: Sequence[Judged]) -> str:
    """Return the page in Markdown."""
    counted = Counter(row.verdict for row in rows)
    said = ", ".join(f"{counted[verdict]} {verdict}" for verdict in dict.fromkeys(row.verdict for row in rows))
    lines = [HEAD, f"{len(rows)} claims: {said}.", ""]
    lines += ["| claim | compared | paper | command | effect | seeds | here |", "|---|---|---|---|---:|---:|---|"]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: Judged) -> str:
    claim = row.claim
    effect, seeds = ("–", "–") if row.effect is None else (_effect(row.effect, claim.unit), str(row.effect.n))
    cells = [claim.claim, _compared(claim), claim.source, f"`{claim.command}`", effect, seeds, _here(row)]
    return f"| {' | '.join(cells)} |"


def _compared(claim: Claim) -> str:
    """Return what is compared, such as `pcgrad` - `joint`, psnr: higher."""
    other = f"`{claim.against}`" if isinstance(claim.against, str) else f"{claim.against:g}"
    on = f" on {', '.join(claim.tasks)}" if claim.tasks else ""
    margin = f", at least {claim.least:g}{_unit(claim.unit)}" if claim.direction in ("higher", "lower") else ""
    allowed = f" {'within' if claim.direction == 'equal' else 'by more than'} {claim.least:g}{_unit(claim.unit)}"
    margin = margin if claim.least and margin else "" if claim.direction in ("higher", "lower") else allowed
    return f"`{claim.label}` − {other}, {claim.measure}{on}: {WORDS[claim.direction]}{margin}"


def _effect(effect: Interval, unit: str) -> str:
    if not math.isfinite(effect.low):
        return f"{effect.estimate:+.2f}{_unit(unit)}"
    return f"{effect.estimate:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}]{_unit(unit)}"


def _here(row: Judged) -> str:
    if row.verdict == "not measured":
        return f"not measured ({row.missing})"
    if row.verdict != "not resolved":
        return f"**{row.verdict}**"
    if not math.isfinite(row.seen):
        return "not resolved (one seed)"
    return f"not resolved ({row.seen:.2f}{_unit(row.claim.unit)})"


def _unit(unit: str) -> str:
    return f" {unit}" if unit else ""
