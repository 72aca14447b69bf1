"""Which runs are comparable, and which are missing, each with the reason and the command that provides them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.store.layout import EXPERIMENT

from . import own_training
from .frames import Frames
from .sources import DIVERGED_AT, NOT_STARTED, Member

SAME = ("tasks", "tests", "holdout", "protocol", "steps", "training", "backbone", "patch", "flips", "meaning")
DATA = ("tasks", "tests")
"""Those that are digests of images by task."""
WORDS = {
    "tasks": "training data",
    "tests": "test data",
    "holdout": "choice of the test images",
    "protocol": "metric protocol",
    "training": "training",
    "backbone": "backbone",
    "patch": "patch size",
    "flips": "flips",
    "meaning": "version of what a configuration computes",
    "steps": "optimizer steps",
}
TOLERATED = {"engine", "compile", "precision"}
"""Training fields that may differ: they change rounding, not the method."""


def reference_task(frames: Frames, member: Member) -> str | None:
    """Return the task of a single-task run, which is a reference and no competitor. `None` for every other run."""
    identity = frames.configs.get(member.run, {}).get("identity", {})
    strategy = identity.get("strategy") or frames.experiment.get("strategies", {}).get(member.label, {})
    curriculum = strategy.get("curriculum")
    is_single = isinstance(curriculum, dict) and curriculum.get("name") == "single"
    return curriculum["task"] if is_single else None


def competitors(frames: Frames) -> list[str]:
    """Return the strategies with at least one finished run that is no single-task reference."""
    labels = dict.fromkeys(one.label for one in frames.finished if reference_task(frames, one) is None)
    return [label for label in frames.labels if label in labels]


def single_runs(frames: Frames) -> dict[str, dict[int, Member]]:
    """Return task -> seed -> finished single-task run of the task."""
    found: dict[str, dict[int, Member]] = {task: {} for task in frames.tasks}
    for member in frames.finished:
        task = reference_task(frames, member)
        if task in found:
            found[task][member.seed] = member
    return found


# ---------------------------------------------------------------------------------------------- not comparable


def reasons_not_to_rank(frames: Frames) -> list[str]:
    """Return why the finished runs may not be ranked against each other. Empty if they may."""
    named = {(one.label, one.seed): _meaning(frames, one) for one in frames.finished}
    return differences(named)


def differences(named: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[str]:
    """Return a sentence per field that must be equal but differs. `named`: (label, seed) -> fields of `meaning_of`.

    Where the test images rotate with the seed, the data of each seed are compared separately.
    """
    found: list[str] = []
    if all(meaning.get("holdout") == "rotate" for meaning in named.values()):
        for seed in dict.fromkeys(seed for _, seed in named):
            of_seed = {name: meaning for name, meaning in named.items() if name[1] == seed}
            found += _differences(of_seed, [key for key in SAME if key in DATA])
        return found + _differences(named, [key for key in SAME if key not in DATA])
    return _differences(named, SAME)


def _differences(named: Mapping[tuple[str, int], Mapping[str, Any]], keys: Iterable[str]) -> list[str]:
    found: list[str] = []
    for key in keys:
        values = {name: meaning[key] for name, meaning in named.items() if meaning.get(key) not in (None, {})}
        if len({_text(value) for value in values.values()}) <= 1:
            continue
        if key in DATA:
            found += _differing_data(key, values)
        elif isinstance(next(iter(values.values())), Mapping):
            found += _differing_fields(key, values)
        else:
            found.append(f"{WORDS[key]} differ: {_who(values)}")
    return found


def _differing_data(key: str, values: Mapping[tuple[str, int], Mapping[str, str]]) -> Iterable[str]:
    for task in dict.fromkeys(task for digests in values.values() for task in digests):
        digests = {name: one.get(task, "not there") for name, one in values.items()}
        if len(set(digests.values())) > 1:
            short = {name: digest[:8] if digest != "not there" else digest for name, digest in digests.items()}
            yield f"{WORDS[key]} of {task} differ (digests): {_who(short)}"


def _differing_fields(key: str, values: Mapping[tuple[str, int], Mapping[str, Any]]) -> Iterable[str]:
    for field in dict.fromkeys(field for one in values.values() for field in one):
        fields = {name: one.get(field) for name, one in values.items()}
        if field not in TOLERATED and len({_text(value) for value in fields.values()}) > 1:
            yield f"{key}.{field} differs: {_who(fields)}"


def unequal_starts(frames: Frames) -> list[str]:
    """Return a sentence if runs of one seed begin from different weights. Single-task references are left out."""
    begun: dict[int, dict[str, str]] = {}
    for member in frames.finished:
        if reference_task(frames, member) is None:
            start = frames.configs[member.run].get("identity", {}).get("start") or {}
            begun.setdefault(member.seed, {})[member.label] = start.get("weights", "initial weights")
    for seed, weights in begun.items():
        if len(set(weights.values())) > 1:
            short = {(label, seed): value if " " in value else value[:8] for label, value in weights.items()}
            return [
                f"Not all strategies begin from the same weights (hashes): {_who(short)}. What the weights "
                "knew before is part of the scores."
            ]
    return []


def meaning_of(identity: Mapping[str, Any], steps: int | None) -> dict[str, Any]:
    """Return the fields that must be equal for two runs to be comparable. `steps` are the steps really done.

    Of an outside model, only what it is scored on must be equal: its training is not known.
    """
    if OUTSIDE in identity:
        return {key: identity.get(key) for key in ("tests", "holdout", "protocol", "meaning")}
    known = {key: identity.get(key) for key in SAME if key != "steps"}
    training = {key: value for key, value in (known["training"] or {}).items() if key != "steps"}
    backbone = known["backbone"]
    while isinstance(backbone, Mapping) and backbone.get("name") in ("headed", "featured"):
        backbone = backbone["of"]  # heads and features of auxiliary objectives do not answer
    return {**known, "training": training, "backbone": backbone, "steps": steps}


def _meaning(frames: Frames, member: Member) -> dict[str, Any]:
    steps = frames.steps.get(member.run)
    is_reference = reference_task(frames, member) is not None  # its budget is a convention that the tables state
    meaning = meaning_of(frames.configs[member.run].get("identity", {}), None if is_reference else steps)
    training = own_training.without_declared(frames, member.label, meaning.get("training") or {})
    return {**meaning, "training": training}


def _who(values: Mapping[tuple[str, int], Any]) -> str:
    """Return which runs have which value, such as `joint (seed 0): 12; pcgrad (seed 1): 30`."""
    groups: dict[str, list[tuple[str, int]]] = {}
    for name, value in values.items():
        groups.setdefault(_text(value), []).append(name)
    return "; ".join(f"{_names(names)}: {value}" for value, names in groups.items())


def _names(names: list[tuple[str, int]], most: int = 3) -> str:
    labels: dict[str, list[int]] = {}
    for label, seed in names:
        labels.setdefault(label, []).append(seed)
    shown = [f"{label} (seed {', '.join(map(str, seeds))})" for label, seeds in labels.items()]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------------------ what is missing


def missing(frames: Frames) -> list[str]:
    """Return sentences on unfinished runs and missing references, each with the command that produces them."""
    return [*_stale(frames), *_unfinished(frames), *_missing_references(frames)]


def _stale(frames: Frames) -> list[str]:
    if not frames.stale:
        return []
    return [
        f"Of an earlier version of this experiment, and counted nowhere: {_names(list(frames.stale), most=12)}. "
        f"`{frames.source.command}` trains these runs again."
    ]


def _unfinished(frames: Frames) -> list[str]:
    lacking = [one for one in frames.members if not one.finished]
    lost = [one for one in frames.members if one.finished and one not in frames.finished]
    sentences = []
    if lacking:
        by_status: dict[str, list[tuple[str, int]]] = {}
        for one in lacking:
            by_status.setdefault(one.status, []).append((one.label, one.seed))
        listed = "; ".join(f"{status}: {_names(names, most=12)}" for status, names in by_status.items())
        resumes = "" if set(by_status) == {NOT_STARTED} else " and resumes stopped runs"
        sentences.append(f"Runs without scores ({listed}). `{frames.source.command}` trains what is missing{resumes}.")
        if diverged := [one for one in lacking if one.status.startswith(DIVERGED_AT)]:
            names = _names([(one.label, one.seed) for one in diverged])
            way = "a smaller training.optimizer.lr or training.clip=1.0 usually helps"
            sentences[-1] += f" {names} would diverge again: {way}."
        strategies = frames.experiment.get("strategies", {})
        unknown = [one.label for one in lacking if strategies and one.label not in strategies]
        if unknown:  # a later call named only some strategies
            sentences.append(
                f"{', '.join(dict.fromkeys(unknown))}: no longer in the {EXPERIMENT} of {frames.source.where}, so "
                "give the first command again, with the experiment's own file."
            )
    if lost:
        names = _names([(one.label, one.seed) for one in lost], most=12)
        sentences.append(f"Finished, but the scores of each image cannot be read in {frames.source.where}: {names}.")
    return sentences


def _missing_references(frames: Frames) -> list[str]:
    """Return a sentence on missing single-task runs, which intransigence and the single-task difference need."""
    trained = [one for one in frames.finished if OUTSIDE not in frames.configs.get(one.run, {}).get("identity", {})]
    seeds = sorted({one.seed for one in trained if reference_task(frames, one) is None})
    have = single_runs(frames)
    lacking = {task: [seed for seed in seeds if seed not in have[task]] for task in frames.tasks}
    lacking = {task: listed for task, listed in lacking.items() if listed}
    if not lacking:
        return []
    sets = " ".join(
        f"--set 'strategies.single_{task}={{curriculum: {{name: single, task: {task}}}}}'" for task in lacking
    )
    named = ", ".join(f"{task} (seed {', '.join(map(str, listed))})" for task, listed in lacking.items())
    return [
        f"No single-task reference for {named}: intransigence and the difference to single-task training are left out "
        f"there. `{frames.source.command} {sets}` makes them."
    ]
