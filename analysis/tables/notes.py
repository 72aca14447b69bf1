"""Notes that explain the tables of scores."""

from __future__ import annotations

from collections.abc import Mapping

from cmtl_ir.measures.scale import Scale
from cmtl_ir.measures.statistics import LEVEL, Interval

from ..data import measures
from ..data.significance import Verdict, why_untested
from ..data.study import Study

SELECTED = {
    "keep_best": "Scored weights: those of the evaluation that was best on validation images, not of the last step",
    "stop_early": "Stages ended early once validation images showed no progress, so that steps differ",
}
"""Key of `training` -> what it does to the scored weights."""


def refusal(study: Study) -> list[str]:
    """Return the note that says why the runs are not ranked. Empty if they are ranked."""
    return [f"Not ranked, nothing tested: {'; '.join(study.reasons)}"] if study.reasons else []


def score_notes(study: Study, scale: Scale) -> list[str]:
    """Return notes on the scored images, the meaning of ±, and the tests."""
    notes = [f"{_tested_on(study)}, metric protocol {study.protocol or 'not recorded'}."]
    notes += _selection_notes(study)
    notes += [] if scale.higher_is_better else [f"{scale.label}: lower is better."]
    if any(count > 1 for count in study.seeds.values()):
        notes.append("± is the half-width of the 95 % t-interval over seeds.")
    if any(count == 1 for count in study.seeds.values()):
        notes.append("One seed: no interval over seeds; another seed may order the strategies otherwise.")
    if len(set(study.seeds.values())) > 1:
        notes.append("Strategies have different numbers of seeds: compare their differences over shared seeds instead.")
    return [*notes, *_test_notes(study, study.verdicts(scale))]


def _selection_notes(study: Study) -> list[str]:
    """Return the note on weights that were chosen by validation images. Empty if those of the last step are scored."""
    experiment = study.frames.experiment
    shared = experiment.get("training") or {}
    own = {label: one.get("training") or {} for label, one in experiment.get("strategies", {}).items()}
    notes = []
    for key, words in SELECTED.items():
        labels = [label for label in study.labels if {**shared, **own.get(label, {})}.get(key) is not None]
        whom = "" if set(labels) == set(study.labels) else f" ({', '.join(labels)})"
        notes += [f"{words}{whom}."] if labels else []
    return notes


def _tested_on(study: Study) -> str:
    """Describe the scored images, including the crop and the limit if there is one."""
    images = study.frames.images[study.frames.images["label"].isin(study.labels)]
    counts = images.groupby("task")["image"].nunique()
    counted = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    data = study.frames.experiment.get("data", {})
    crop, limit = data.get("test_crop"), data.get("test_limit")
    shown = f"centre crops of {crop} pixels of {counted}" if crop else counted
    return f"{shown[0].upper()}{shown[1:]} {'' if crop else 'whole '}test images per task" + (
        f" (the first {limit} of each set at most)" if limit else ""
    )


def _test_notes(study: Study, verdicts: Mapping[tuple[str, str], Verdict]) -> list[str]:
    if not verdicts:
        return []
    untested = sorted({one.test.reason for one in verdicts.values() if one.test.reason})
    if all(one.test.reason for one in verdicts.values()):
        return [f"Not tested over images, so no bold: {why_untested(verdicts.values())}."]
    images = sorted({one.difference.n for one in verdicts.values()})
    span = f"{images[0]} to {images[-1]}" if len(images) > 1 else f"{images[0]}"
    note = (
        f"Bold: significantly better than {study.baseline} over these images, for these weights; italics: worse "
        f"(paired Wilcoxon test over {span} images, Holm's correction for {len(verdicts)} comparisons, "
        f"p ≤ {1 - LEVEL:.2f})."
    )
    return [note, *(f"Not tested in part: {reason}." for reason in untested)]


def reference_notes(study: Study, references: Mapping[str, Interval]) -> list[str]:
    """Return the note on the training of the single-task references. Empty if there are none."""
    if not references:
        return []
    steps = {
        study.frames.steps.get(member.run)
        for members in measures.single_runs(study.frames).values()
        for member in members.values()
    }
    counted = " or ".join(f"{step:,}" for step in sorted(step for step in steps if step))
    return [f"(single-task runs): each task from a model of its own, trained {counted} steps on it alone."]
