"""A table for each study: what every strategy reached on every task, and how it differs from the baseline."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from cmtl_ir.measures.statistics import seed_interval

from ..tables.formats import with_interval
from .judging import Claim
from .results import Results, paired

SCORE, INPUT, FORGETTING, COST = "psnr", "psnr_input", "forgetting", "cpu_seconds"
HEAD = """
## What each study measured

PSNR in dB, mean over seeds. *Difference*: of the mean over tasks to that of the strategy in bold, paired by seed, with
its 95 % t-interval. *Below input*: number of tasks that end below their degraded inputs. *Forgotten*: best score after
an earlier stage minus the last one, mean over the tasks of earlier stages. *CPU s*: processor time of a run.
"""


def tables(claims: Sequence[Claim], studies: Mapping[str, Results]) -> str:
    """Return one Markdown table for each study with scores, or the empty string."""
    parts = [table(name, results, baseline(claims, name, results)) for name, results in studies.items()]
    return "\n".join([HEAD, *parts]) if (parts := [part for part in parts if part]) else ""


def baseline(claims: Sequence[Claim], study: str, results: Results) -> str | None:
    """Return `joint` if a study has it, else the label that most of its claims compare with, `None` without such."""
    known = set(results.labels(SCORE))
    if "joint" in known:
        return "joint"
    named = Counter(str(claim.against) for claim in claims if claim.study == study and claim.against in known)
    return named.most_common(1)[0][0] if named else None


def table(study: str, results: Results, base: str | None) -> str:
    """Return the table of a study, strategies in the order of their scores. Empty if it has no scores."""
    scores = {label: results.means(label, SCORE, None) for label in results.labels(SCORE)}
    scores = {label: known for label, known in scores.items() if known}
    if not scores:
        return ""
    tasks = results.tasks(SCORE)
    forgets = any(results.means(label, FORGETTING, None) for label in scores)
    heads = [
        "strategy",
        "mean",
        "difference",
        *tasks,
        "below input",
        *(["forgotten"] if forgets else []),
        "seeds",
        "CPU s",
    ]
    lines = [f"### {study}", "", f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    if results.labels(INPUT):
        lines.append(_line(["(degraded input)", *_inputs(results, tasks, len(heads) - 3 - len(tasks))]))
    ordered = sorted(scores, key=lambda label: -float(np.mean(list(scores[label].values()))))
    for label in ordered:
        lines.append(_line(_cells(results, label, base, tasks, forgets)))
    return "\n".join([*lines, "", _cost(results), ""])


def _cells(results: Results, label: str, base: str | None, tasks: Sequence[str], forgets: bool) -> Iterator[str]:
    own = results.means(label, SCORE, None)
    yield f"**{label}**" if label == base else label
    yield _interval(list(own.values()))
    yield _difference(own, results.means(base, SCORE, None)) if base and base != label else ""
    means = {task: _mean(results.means(label, SCORE, [task])) for task in tasks}
    yield from (f"{means[task]:.2f}" for task in tasks)
    yield str(sum(means[task] < _mean(results.means(label, INPUT, [task])) for task in tasks))
    if forgets:
        lost = list(results.means(label, FORGETTING, None).values())
        yield _interval(lost) if lost else ""
    yield str(len(own))
    spent = _mean(results.means(label, COST, None))
    yield "" if math.isnan(spent) else f"{spent:.0f}"


def _inputs(results: Results, tasks: Sequence[str], blank: int) -> Iterator[str]:
    label = results.labels(INPUT)[0]
    means = [_mean(results.means(label, INPUT, [task])) for task in tasks]
    yield f"{float(np.mean(means)):.2f}"
    yield ""
    yield from (f"{mean:.2f}" for mean in means)
    yield from [""] * blank


def _cost(results: Results) -> str:
    """Return the sentence on the processor time of all runs of a study."""
    spent = [value for label in results.labels(COST) for value in results.means(label, COST, None).values()]
    return f"{len(spent)} runs, {sum(spent) / 3600:.1f} hours of processor time." if spent else ""


def _difference(own: Mapping[int, float], theirs: Mapping[int, float]) -> str:
    if not (values := paired(own, theirs)):
        return ""
    text = _interval(values)
    return text if text.startswith("-") else f"+{text}"


def _interval(values: Sequence[float]) -> str:
    return with_interval(seed_interval(np.array(values))).text


def _mean(values: Mapping[int, float]) -> float:
    return float(np.mean(list(values.values()))) if values else math.nan


def _line(cells: Iterator[str] | Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
