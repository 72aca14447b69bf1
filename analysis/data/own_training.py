"""Training settings that a strategy alone was given: what a comparison may rank in spite of them, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cmtl_ir.config.own_training import flat

from .frames import Frames

BUDGET = ("steps", "batch", "progressive")
"""Settings that make runs not comparable, whether declared or not: strategies are compared at one budget."""


def declared(frames: Frames, label: str) -> dict[str, Any]:
    """Return path -> value of the settings that a strategy alone was given. A loss counts as one setting."""
    own = frames.own_training(label)
    return {**flat({key: value for key, value in own.items() if key != "loss"}), **_loss(own)}


def shared_value(frames: Frames, path: str) -> Any:
    """Return the value of a setting in the experiment. `None` if the experiment does not state it."""
    found: Any = frames.experiment.get("training", {})
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def without_declared(frames: Frames, label: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the training settings of a run with those of the experiment in place of those its strategy declares.

    What remains different between two runs was not declared. A run that was not trained as declared is left as it is.
    """
    found = dict(training)
    for path, value in declared(frames, label).items():
        if path in BUDGET:
            continue
        above, _, field = path.rpartition(".")
        holder = dict(found.get(above) or {}) if above else found
        if holder.get(field) != value:
            continue
        shared = shared_value(frames, path)
        holder = {**holder, field: shared} if shared is not None else {k: v for k, v in holder.items() if k != field}
        found = {**found, above: holder} if above else holder
    return found


def cautions(frames: Frames, labels: Sequence[str]) -> list[str]:
    """Return a sentence per setting that some of the strategies were given and others were not."""
    sentences = []
    named = {label: declared(frames, label) for label in labels}
    for path in dict.fromkeys(path for own in named.values() for path in own):
        having = {label: own[path] for label, own in named.items() if path in own}
        others = [label for label in labels if label not in having]
        if others:
            listed = ", ".join(f"{label} ({value})" for label, value in having.items())
            sentences.append(
                f"Only some strategies have their own training.{path}: {listed}; {', '.join(others)} "
                f"{'has' if len(others) == 1 else 'have'} that of the experiment, {shared_value(frames, path)}. A "
                "difference may come from this setting instead of the method. `cmtl-ir tune` tunes all of them alike."
            )
    return sentences


def _loss(own: Mapping[str, Any]) -> dict[str, Any]:
    return {"loss": own["loss"]} if "loss" in own else {}
