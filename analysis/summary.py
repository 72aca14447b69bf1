"""The summary of a report in words: ranking, forgetting, cost and caveats."""

from __future__ import annotations

import math

from cmtl_ir.measures.scale import Scale
from cmtl_ir.measures.statistics import Interval

from . import beyond, verdicts
from .data import measures, own_training
from .data.cost import clock_of
from .data.study import Study
from .verdicts import MOST


def summary(study: Study) -> list[str]:
    """Return the sentences of the summary, most important first."""
    sentences = [
        _unfinished(study),
        *verdicts.over_seeds(study),
        _winner(study),
        _below_input(study),
        *verdicts.over_images(study),
        *_alike(study),
        _forgotten(study),
        _against_single(study),
        _harm(study),
        *beyond.sentences(study),
        _cost(study),
        *_by_other_metrics(study),
    ]
    return [sentence for sentence in [*sentences, *_caveats(study)] if sentence]


def _unfinished(study: Study) -> str:
    finished, planned = len(study.frames.finished), len(study.frames.members)
    return f"{finished} of {planned} runs have scores; the others are named below." if finished < planned else ""


def _winner(study: Study) -> str:
    if study.reasons:
        return "Not ranked: these runs are not comparable (the reasons are listed above); each number stands by itself."
    table = study.measures
    shared = measures.shared_seeds(table, study.ranking)
    means = measures.over_seeds(table[table["seed"].isin(shared)], "average", "label")
    if not study.ranking:
        return "Not ranked: no strategy has finished all its seeds; each number stands by itself."
    if len(study.ranking) < 2:
        only = study.ranking[0]
        return f"{only} reaches a mean PSNR of {_db(means[only])}; no second strategy has finished all its seeds."
    best, last = study.ranking[0], study.ranking[-1]
    unequal = len({study.seeds[label] for label in study.ranking}) > 1
    which = f" over the {len(shared)} seeds that all have" if unequal else ""
    text = f"{best} has the highest mean PSNR{which}, {_db(means[best])}"
    text += (
        f"; {study.baseline} (the baseline) has {_db(means[study.baseline])}"
        if study.baseline != best and study.baseline in means
        else ""
    )
    text += f"; {last} has the lowest, {_db(means[last])}" if last not in (best, study.baseline) else ""
    unranked = [label for label in study.labels if label not in study.ranking]
    text += f". Not all seeds are finished, so not ranked: {', '.join(unranked)}" if unranked else ""
    return text + "."


def _below_input(study: Study) -> str:
    own = study.measures.groupby("label", sort=False)["gain"].mean()
    worse = [label for label in study.labels if own.get(label, 0.0) < 0]
    if not worse:
        return ""
    who = "Every strategy" if len(worse) == len(study.labels) else ", ".join(worse)
    end = "end" if 1 < len(worse) < len(study.labels) else "ends"
    return f"{who} {end} below the degraded input on average: leaving the images alone scores higher."


def _alike(study: Study) -> list[str]:
    """Return one sentence per group of strategies with equal scores on every image, which share a line in figures."""
    groups: dict[tuple[tuple[int, tuple[float, ...]], ...], list[str]] = {}
    images = study.frames.images
    for label in study.labels:
        own = images[images["label"] == label]
        scores = tuple((int(str(seed)), tuple(one["psnr"])) for seed, one in own.groupby("seed"))
        groups.setdefault(scores, []).append(label)
    return [
        f"{' and '.join(group)} scored the same on every image: under these settings they are one method."
        for group in groups.values()
        if len(group) > 1
    ]


def _forgotten(study: Study) -> str:
    found = measures.over_seeds(study.measures, "forgetting", "label")
    if not found:
        return "Every strategy trains in one stage: none has an earlier stage to forget."
    order = sorted(found, key=lambda label: -found[label].estimate)
    listed = _both_ends([f"{label} {_db(found[label])}" for label in order])
    return f"Forgotten of the tasks learnt before the last stage, on average: {listed}."


def _against_single(study: Study) -> str:
    found = measures.over_seeds(study.measures, "delta_db", "label")
    if not found or study.reasons:
        return ""
    order = sorted(found, key=lambda label: -found[label].estimate)
    return f"Against one model for each task: {_both_ends([f'{one} {found[one].estimate:+.2f} dB' for one in order])}."


def _harm(study: Study) -> str:
    found = measures.over_seeds(study.measures, "harm_rate", "label")
    order = sorted(found, key=lambda label: -found[label].estimate)
    if found[order[0]].estimate == 0:
        return "No strategy made any test image worse than leaving it alone."
    listed = _both_ends([f"{label} {found[label].estimate:.0%}" for label in order])
    return f"Test images made worse than by leaving them alone: {listed}."


def _cost(study: Study) -> str:
    clock = clock_of(study)
    found = measures.over_seeds(study.frames.cost, clock.column, "label")
    found = {label: found[label] for label in study.labels if label in found}
    if not found:
        return "What training cost is not recorded in this store."
    order = sorted(found, key=lambda label: found[label].estimate)
    cheap, dear = order[0], order[-1]
    milliseconds, times = 1e3 * found[cheap].estimate, found[dear].estimate / found[cheap].estimate
    if times < 1.005 and len(order) > 1:
        return f"All strategies cost the same, {milliseconds:.0f} {clock.unit} per step."
    text = f"Cheapest: {cheap}, {milliseconds:.0f} {clock.unit} per step"
    return f"{text}; dearest: {dear}, {times:.2f} times that." if cheap != dear else f"{text}."


def _by_other_metrics(study: Study) -> list[str]:
    """Return one sentence on the best and worst strategy for each metric that does not rank the strategies."""
    sentences = []
    for scale in study.scales[1:] if len(study.ranking) > 1 else ():
        table = study.measures_of(scale)
        shared = table[table["seed"].isin(measures.shared_seeds(table, study.ranking))]
        means = shared.groupby("label")["average"].mean()
        known = {label: float(means[label]) for label in study.ranking if means.get(label) == means.get(label)}
        if len(known) > 1:
            first, last = (pick(known, key=lambda one: scale.sign * known[one]) for pick in (max, min))
            sentences.append(
                f"By {scale.label}, {first} is best ({scale.best} mean, {_level(known[first], scale)}) and {last} "
                f"worst ({_level(known[last], scale)})."
            )
    return sentences


def _level(value: float, scale: Scale) -> str:
    return f"{scale.text(value)} {scale.unit}".strip()


def _caveats(study: Study) -> list[str]:
    sentences = []
    training = study.frames.experiment.get("training", {})
    own = {label for label in study.labels if "optimizer.lr" in own_training.declared(study.frames, label)}
    if "optimizer" in training and len(study.labels) > 1 and not own:
        sentences.append(
            f"All strategies share one learning rate, {training['optimizer']['lr']:g}: a convention, not fairness; "
            "each might do better with its own (cmtl-ir tune)."
        )
    return sentences


def _both_ends(entries: list[str]) -> str:
    """Join a sorted list. Of a long list, keep only the two ends."""
    if len(entries) <= MOST:
        return ", ".join(entries)
    first, last = entries[: MOST // 2], entries[-(MOST // 2) :]
    return f"{', '.join(first)} … {', '.join(last)} (all {len(entries)} in the tables)"


def _db(found: Interval) -> str:
    if not math.isfinite(found.low):
        return f"{found.estimate:.2f} dB" + (" (one seed)" if found.n == 1 else "")
    return f"{found.estimate:.2f} ± {(found.high - found.low) / 2:.2f} dB ({found.n} seeds)"
