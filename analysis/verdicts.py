"""Sentences on the significance of differences: over seeds first, then over images for the trained weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cmtl_ir.measures.seeds import SeedDifference, seeds_needed

from .data.significance import MEAN, Verdict, why_untested
from .data.study import Study
from .tables.resolution import WANTED, style_of

MOST = 6
"""Maximum number of strategies that a sentence lists."""
ONE_SEED = "One seed: nothing can be said over seeds; another seed may order the strategies otherwise."


def over_seeds(study: Study) -> list[str]:
    """Return sentences on the differences over seeds, and on how small a difference the seeds detect."""
    if study.reasons or len(study.labels) < 2:
        return [ONE_SEED] if all(count == 1 for count in study.seeds.values()) else []
    return sentences(study.over_seeds(), study.baseline)


def sentences(found: Mapping[str, SeedDifference], baseline: str) -> list[str]:
    """Return sentences on strategy -> difference to the baseline over seeds."""
    if not found:
        return []
    tested = {label: one for label, one in found.items() if len(one.seeds) > 1}
    if not tested:
        return [ONE_SEED]
    said = []
    for style in ("better", "worse"):
        ours = {label: one for label, one in tested.items() if style_of(one) == style}
        if ours:
            said.append(f"Over seeds, significantly {style} than {baseline} (mean over tasks): {_differences(ours)}.")
    silent = {label: one for label, one in tested.items() if not style_of(one)}
    if silent:
        said.append(f"Over seeds, not significantly different from {baseline}: {_differences(silent)}.")
    return [*said, _resolution(tested, baseline)]


def _differences(found: Mapping[str, SeedDifference]) -> str:
    """List mean differences with their intervals over seeds. Of many, list the largest ones."""
    order = sorted(found, key=lambda label: -abs(found[label].difference.estimate))
    listed = [f"{label} {seed_difference(found[label])}" for label in order[:MOST]]
    more = f" and {len(order) - MOST} more (all in the table)" if len(order) > MOST else ""
    return "; ".join(listed) + more


def seed_difference(one: SeedDifference) -> str:
    """Return a mean difference in dB with its half-width, the number of seeds and the corrected p-value."""
    half = (one.difference.high - one.difference.low) / 2
    ends = f" ± {half:.2f}" if math.isfinite(half) else ""
    tested = p_text(one.p_holm) if not one.reason else one.reason
    return f"{one.difference.estimate:+.2f}{ends} dB ({len(one.seeds)} seeds, {tested})"


def _resolution(found: Mapping[str, SeedDifference], baseline: str) -> str:
    """Say how small a difference these seeds detect, and how many seeds smaller differences need."""
    order = sorted(found, key=lambda label: found[label].detectable)
    fine, coarse = found[order[0]], found[order[-1]]
    span = f"{fine.detectable:.2f} dB"
    if len(order) > 1:
        span += f" ({order[0]}) to {coarse.detectable:.2f} dB ({order[-1]})"
    needed = [f"{_from_to(fine.sd, coarse.sd, size)} for {size:g} dB" for size in WANTED]
    return (
        f"With 80 % power these seeds detect differences to {baseline} from {span} on; seeds needed: "
        f"{', '.join(needed)}."
    )


def _from_to(fine: float, coarse: float, size: float) -> str:
    few, many = seeds_needed(fine, size), seeds_needed(coarse, size)
    return f"{few:,}" if few == many else f"{few:,} to {many:,}"


# ----------------------------------------------------------------------------------------------------- over images


def over_images(study: Study) -> list[str]:
    """Return sentences on the best strategy and on the significant differences of all tasks, over the test images."""
    verdicts = study.verdicts()
    if not verdicts or len(study.ranking) < 2:
        return []
    best = study.ranking[0] if study.ranking[0] != study.baseline else study.ranking[1]
    mean = verdicts.get((best, MEAN))
    said = []
    if mean is not None:
        said.append(f"mean over tasks, {best} against {study.baseline}: {_difference(mean)}.")
    for style in ("better", "worse"):
        found = {key: one for key, one in verdicts.items() if one.style == style and key[1] != MEAN}
        if found:
            said.append(f"significantly {style} than {study.baseline}: {_listed(found)}.")
    tested = [one for one in verdicts.values() if not one.test.reason]
    if not tested:
        said.append(f"no difference between strategies could be tested ({why_untested(verdicts.values())}).")
    else:
        silent = sum(not one.style for one in tested)
        said.append(f"of {len(tested)} tested differences to {study.baseline}, {silent or 'none'} are not significant.")
    return [f"Over these images, for these weights: {one}" for one in said]


def _difference(verdict: Verdict) -> str:
    found, test = verdict.difference, verdict.test
    ends = f" [{found.low:+.2f}, {found.high:+.2f}]" if math.isfinite(found.low) else ""
    word = f"significantly {verdict.style}" if verdict.style else "not significant"
    return f"{found.estimate:+.2f} dB{ends}, {word} ({test.reason or p_text(test.p_holm)})"


def p_text(value: float) -> str:
    """Return a p-value as text with three digits."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _listed(found: Mapping[tuple[str, str], Verdict]) -> str:
    """List differences by strategy. If there are very many, give only their number and the largest one."""
    if len(found) > 2 * MOST:
        label, task = max(found, key=lambda key: abs(found[key].difference.estimate))
        most = f"{label}, {task} {found[label, task].difference.estimate:+.2f} dB"
        strategies = len({label for label, _ in found})
        return f"{len(found)} differences on tasks, of {strategies} strategies; the largest: {most} (all in the table)"
    by_label: dict[str, list[str]] = {}
    for (label, task), one in found.items():
        by_label.setdefault(label, []).append(f"{task} {one.difference.estimate:+.2f} dB")
    return "; ".join(f"{label} ({', '.join(tasks)})" for label, tasks in by_label.items())
