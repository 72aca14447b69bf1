"""Collection of the numbers of a finished comparison or unlearning request that claims are tested on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from cmtl_ir.base.errors import UserError
from cmtl_ir.store.layout import run_folder
from cmtl_ir.suites.blocks import REGIMES
from cmtl_ir.suites.summary import NONE, Summary, summaries

from ..data import fairness, measures, sources
from ..data.frames import Frames
from ..data.sources import Source
from ..tables.conflict import corrected, pairs
from .results import Row

ORIGINAL = "original"
"""Label of the run that an unlearning request is about."""


def rows_of(folder: Path) -> list[Row]:
    """Return the numbers of the finished runs in a comparison's folder. Raise UserError if there is no comparison."""
    frames = Frames(_with_originals(sources.of_folder(folder)))
    if not frames.finished:
        raise UserError(f"{folder}: no run has scores; `{frames.source.command}` trains what is missing")
    found = [*_scores(frames), *_measures(frames), *_costs(frames), *_cosines(frames), *_groups(frames)]
    found += _suites(frames)
    return [row for row in found if math.isfinite(row.value)]


def _with_originals(source: Source) -> Source:
    """Return a source with the runs that the runs of an unlearning request were made from."""
    home = Path(source.where).parent
    found = Frames(source)
    originals = {}
    for member in found.finished:
        asked = found.configs[member.run].get("identity", {}).get("unlearning", {})
        if asked:
            hash_ = asked["parent"]
            originals[hash_] = sources.member(ORIGINAL, member.seed, run_folder(home, hash_))
    return replace(source, members=(*source.members, *originals.values()))


def _scores(frames: Frames) -> Iterator[Row]:
    """Yield the mean scores over the test images of each task, and those of the degraded input."""
    for row in measures.scores(frames).to_dict("records"):
        for scale in frames.scales:
            for name in (scale.name, f"{scale.name}_input"):
                yield Row(row["label"], row["seed"], row["run"], row["task"], name, float(row[name]))


def _measures(frames: Frames) -> Iterator[Row]:
    """Yield the measures of PSNR of each run with a curve over all its tasks, such as forgetting."""
    for row in measures.of_runs(frames).to_dict("records"):
        for name in measures.MEASURES:
            yield Row(row["label"], row["seed"], row["run"], "", str(name), float(row[name]))


def _costs(frames: Frames) -> Iterator[Row]:
    """Yield the processor time of each run in seconds."""
    for member in frames.finished:
        spent = frames.results[member.run].get("cpu_seconds", math.nan)
        yield Row(member.label, member.seed, member.run, "", "cpu_seconds", float(spent))


def _cosines(frames: Frames) -> Iterator[Row]:
    """Yield the noise-corrected cosine of each pair of tasks where it is measurable, and the mean over these pairs."""
    for (label, seed, run), frame in frames.conflict.groupby(["label", "seed", "run"], sort=False):
        head = (str(label), int(str(seed)), str(run))
        known = {f"{a} – {b}": corrected(frame, a, b).estimate for a, b in pairs(frame)}
        known = {pair: cosine for pair, cosine in known.items() if math.isfinite(cosine)}
        yield from (Row(*head, pair, "corrected_cosine", cosine) for pair, cosine in known.items())
        if known:
            yield Row(*head, "", "mean_corrected_cosine", sum(known.values()) / len(known))


def _groups(frames: Frames) -> Iterator[Row]:
    """Yield the score with the task given, and the agreement of the groups of two groupings under the same seed."""
    grouped = {
        (member.label, member.seed): (member.run, frames.results[member.run]["grouping"])
        for member in frames.finished
        if "grouping" in frames.results[member.run] and fairness.reference_task(frames, member) is None
    }
    for (label, seed), (run, found) in grouped.items():
        for task, score in found.get("psnr_oracle", {}).items():
            yield Row(label, seed, run, task, "psnr_task_given", float(score))
    for (one, mine), (other, theirs) in itertools.permutations(grouped.items(), 2):
        if one[1] == other[1]:
            agreement = adjusted_rand(_model_of(mine[1]), _model_of(theirs[1]))
            yield Row(one[0], one[1], mine[0], other[0], "group_agreement", agreement)


def _suites(frames: Frames) -> Iterator[Row]:
    """Yield `gain/SUITE/RANGE` in dB and `harm/SUITE/RANGE` of each task of a suite: means over its lines.

    The label of an answer under an adapter is LABEL+ADAPTER. A range is left out of the name where it is the regime of
    the run, as on composites, so that runs of both regimes can be compared.
    """
    runs: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in frames.suites:
        runs.setdefault((row["label"], row["seed"], row["run"]), []).append(row)
    for (label, seed, run), rows in runs.items():
        groups: dict[tuple[str, str, str], list[Summary]] = {}
        for one in summaries(rows):
            name = one.suite if one.block in REGIMES else f"{one.suite}/{one.block}"
            groups.setdefault((one.answer, name, one.task), []).append(one)
        for (answer, name, task), lines in groups.items():
            whole = label if answer == NONE else f"{label}+{answer}"
            yield Row(whole, seed, run, task, f"gain/{name}", fmean(one.gain.estimate for one in lines))
            yield Row(whole, seed, run, task, f"harm/{name}", fmean(one.harm for one in lines))


def _model_of(found: Mapping[str, Any]) -> dict[str, int]:
    return {task: number for number, group in enumerate(found["groups"]) for task in group["serves"]}


def adjusted_rand(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Return the adjusted Rand index of two partitions (Hubert & Arabie, J. Classif. 1985): 1 if equal, 0 by chance.

    NaN if both partitions are trivial, so that they cannot but agree.
    """
    tasks = sorted(set(one) & set(other))
    couples = list(itertools.combinations(tasks, 2))
    here, there = ([which[a] == which[b] for a, b in couples] for which in (one, other))
    together, mine, theirs = sum(_both(here, there)), sum(here), sum(there)
    expected = mine * theirs / len(couples) if couples else 0.0
    largest = (mine + theirs) / 2
    return math.nan if largest == expected else (together - expected) / (largest - expected)


def _both(here: Sequence[bool], there: Sequence[bool]) -> list[bool]:
    return [a and b for a, b in zip(here, there, strict=True)]
