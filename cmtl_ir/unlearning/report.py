"""Report on an unlearning request: the figures of every model per seed, and what they mean in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmtl_ir.config.start import OUTSIDE
from cmtl_ir.measures.curve import scales_in
from cmtl_ir.measures.scale import PSNR, Scale
from cmtl_ir.store.folder import read_result
from cmtl_ir.store.layout import AUDITS, run_folder
from cmtl_ir.strategy.unlearning import Rerun
from cmtl_ir.unlearning.audit import Audit, Auditor
from cmtl_ir.unlearning.audit_jobs import audit_in_processes
from cmtl_ir.unlearning.costs import Cost, of_result
from cmtl_ir.unlearning.origin import Origin
from cmtl_ir.unlearning.planning import REFERENCE, Job, reference_folder
from cmtl_ir.unlearning.relearn import TOLERANCE_DB
from cmtl_ir.unlearning.requests import Forgetting, mlflow_parent, results_listed

ORIGINAL, RETRAINED = "original", "retrained"
COLLATERAL_DB = 0.1
"""A retained task whose PSNR falls by more than this below the original counts as harmed."""
OVER_DB = 1.0
"""A task further below the retrained model and the untouched image than this shows that something was removed."""
RETURNING = 0.5
"""A task relearnt in less than this share of the retrained model's steps was hidden rather than forgotten."""
DEARER = 1.05
"""A method that takes more than this share of the time of retraining costs more. Repetitions differ by less."""
RELEARN_STEPS = 100
NO_REFERENCE = "no reference"


@dataclass(frozen=True)
class Measured:
    """All figures of one model with one seed."""

    label: str
    method: str
    """Name of the method, or `original` for the run that is to forget."""
    seed: int
    folder: Path
    result: dict[str, Any]
    """Result of the run: every metric per task, and METRIC_input for the degraded input."""
    audit: Audit
    steps: int
    """Optimizer steps from the original to this model, including those of constituents."""
    seconds: float
    """Wall time from the original to this model."""
    cpu_seconds: float | None = None
    """CPU time likewise. `None` if it was not recorded, or if a GPU did the work."""

    def score(self, task: str, scale: Scale = PSNR) -> float:
        """Return the score of a task. NaN if the run was not scored by this metric."""
        return float(self.result.get(scale.name, {}).get(task, math.nan))

    @property
    def is_original(self) -> bool:
        """Whether this is the run that is to forget."""
        return self.method == ORIGINAL


@dataclass(frozen=True)
class Report:
    """Everything measured for one request."""

    name: str
    folder: Path
    forget: tuple[str, ...]
    retain: tuple[str, ...]
    before: tuple[str, ...]
    """Tasks forgotten by earlier requests."""
    models: list[Measured]
    references: dict[int, str | None]
    """Seed -> hash of the retrained run. `None` if it is not finished."""
    way: str
    """Way to the missing references: the command that trains them, or why there can be none."""
    budget: int
    """Largest number of relearning steps."""

    @property
    def labels(self) -> list[str]:
        """Labels of the models, in the order of the table."""
        return list(dict.fromkeys(one.label for one in self.models))

    def of(self, label: str) -> list[Measured]:
        """Return the models of a label, one per seed."""
        return [one for one in self.models if one.label == label]

    def original(self, seed: int) -> Measured:
        """Return the run of this seed that is to forget."""
        return next(one for one in self.models if one.is_original and one.seed == seed)

    def retrained(self, seed: int) -> Measured | None:
        """Return the retrained model of this seed. `None` if there is none."""
        wanted = self.references.get(seed)
        return next((one for one in self.models if one.folder.name == wanted and one.seed == seed), None)

    @property
    def time_unit(self) -> str:
        """Unit of `time_of`: CPU time if it is known of all models, or else wall time."""
        return "CPU s" if all(one.cpu_seconds is not None for one in self.models) else "s"

    def time_of(self, one: Measured) -> float:
        """Return the time from the original to a model, in `time_unit`."""
        return one.seconds if one.cpu_seconds is None or self.time_unit == "s" else one.cpu_seconds

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Metrics that at least one model was scored by, PSNR first."""
        return scales_in([one.result for one in self.models])

    def harm(self, one: Measured, task: str, scale: Scale = PSNR) -> float:
        """Return the change of a task against the original, in the unit of the metric.

        Values below 0 are worse for every metric, whether higher or lower scores are better.
        """
        return scale.sign * (one.score(task, scale) - self.original(one.seed).score(task, scale))

    def gap(self, one: Measured, task: str, scale: Scale = PSNR) -> float | None:
        """Return the difference of a task to the retrained model, above 0 if better. `None` without a reference."""
        other = self.retrained(one.seed)
        return None if other is None else scale.sign * (one.score(task, scale) - other.score(task, scale))

    def floor(self, one: Measured, task: str) -> float:
        """Return the PSNR in dB at which forgetting is complete: the lower of retrained model and untouched image."""
        other, untouched = self.retrained(one.seed), one.result["psnr_input"][task]
        return untouched if other is None else min(untouched, other.score(task))


def report_on(
    made: Forgetting,
    budget: int = RELEARN_STEPS,
    told: Callable[[str], None] | None = None,
) -> Report:
    """Measure the original, the reference and every result; log the figures of each result to its tracked run.

    `budget` is the largest number of relearning steps, and 0 skips relearning. `told` is called with the name of each
    model that is measured. `None` reports nothing.
    """
    models, references = list[Measured](), dict[int, str | None]()
    asked = list[tuple[Auditor, list[_Subject]]]()
    for origin in made.origins:
        reference = reference_folder(Job(origin, RETRAINED, Rerun(), made.forget))
        references[origin.seed] = reference.name if reference else None
        auditor = Auditor(origin, made.forget, reference, budget, made.folder / AUDITS)
        asked.append((auditor, _subjects(made, origin, reference)))
    if made.workspace.parallel:
        if told is not None:
            told(f"{sum(len(subjects) for _, subjects in asked)} models, {made.workspace.workers} at once")
        folders = [(auditor, [one.folder for one in subjects]) for auditor, subjects in asked]
        audit_in_processes(folders, made.workspace)
    for auditor, subjects in asked:
        for subject in subjects:
            if told is not None:
                told(f"{subject.label}, seed {auditor.origin.seed}")
            models.append(_measured(subject, auditor))
    order = {label: place for place, label in enumerate(dict.fromkeys(one.label for one in models))}
    models.sort(key=lambda one: order[one.label])
    origin = made.origins[0]
    retain = tuple(task for task in origin.kept if task not in made.forget)
    report = Report(
        made.name, made.folder, made.forget, retain, origin.forgotten, models, references, _way(made), budget
    )
    _track(made, report)
    return report


def _way(made: Forgetting) -> str:
    """Return the way to missing references, in words."""
    identity = made.origins[0].identity
    if OUTSIDE in identity:
        return f"an outside model has one if --reference FILE gives weights trained without {', '.join(made.forget)}"
    if "start" in identity:
        return "the run began from weights that may know the task"
    tasks = " ".join(f"--forget {task}" for task in made.forget)
    return f"make it: cmtl-ir unlearn {made.origins[0].called} {tasks} --method retrain --out {made.folder.parent}"


@dataclass(frozen=True)
class _Subject:
    """A model to be measured."""

    label: str
    method: str
    folder: Path
    cost: Cost | None = None
    """Cost from the original to this model. `None` takes the cost of its own run."""


def _subjects(made: Forgetting, origin: Origin, reference: Path | None) -> list[_Subject]:
    """Return the original, the reference and every result of this request, including those of earlier commands."""
    out = made.folder.parent
    rows = [row for row in results_listed(made) if row["parent"] == origin.hash]
    found = [
        _Subject(
            row["label"],
            row["method"],
            run_folder(out, row["hash"]),
            Cost(row["steps"], row["seconds"], row.get("cpu_seconds")),
        )
        for row in rows
    ]
    own = [one for one in found if one.folder == reference]
    if reference is not None and not own:
        own = [_Subject(RETRAINED, REFERENCE, reference)]
    others = [one for one in found if one.folder != reference]
    return [_Subject(ORIGINAL, ORIGINAL, origin.folder), *own, *others]


def _measured(one: _Subject, auditor: Auditor) -> Measured:
    result = read_result(one.folder)
    audit, cost = auditor.audit(one.folder), one.cost or of_result(result)
    return Measured(one.label, one.method, auditor.origin.seed, one.folder, result, audit, *cost)


def _track(made: Forgetting, report: Report) -> None:
    """Log the figures of each result as metrics of its own tracked run."""
    for done in made.done:
        one = next(m for m in report.of(done.job.label) if m.folder == done.run.folder)
        tracker = made.workspace.tracking.run(
            done.run.hash, name=f"{done.job.label}-seed{one.seed}", parent=mlflow_parent(made, done.job),
            comparison=made.name, label=done.job.label, params={}, folder=done.run.folder,
        )  # fmt: skip
        tracker.log(one.result["steps"], figures(report, one))
        tracker.finish("FINISHED")


def figures(report: Report, one: Measured) -> dict[str, float]:
    """Return the figures of a model by metric name. Figures that were not measured are left out."""
    tasks, back = (*report.forget, *report.retain), one.audit.relearning
    named: dict[str, float | None] = {}
    for scale in report.scales:
        kind = "db" if scale == PSNR else scale.name
        named |= {f"harm_{kind}/{task}": report.harm(one, task, scale) for task in report.retain}
        named |= {f"gap_{kind}/{task}": report.gap(one, task, scale) for task in tasks}
    named |= {f"output_distance/{task}": (one.audit.distance or {}).get(task) for task in tasks}
    named |= {"membership_auc": one.audit.attack.estimate, "unlearning_steps": float(one.steps)}
    named |= {"relearning_steps": back.steps if back else None, "unlearning_seconds": one.seconds}
    named |= {"unlearning_cpu_seconds": one.cpu_seconds}
    return {name: value for name, value in named.items() if value is not None and math.isfinite(value)}


# ------------------------------------------------------------------------------------------------------ in words


def verdict(report: Report, label: str) -> list[str]:
    """Return warnings about a result, from means over seeds: over-forgotten, still known, soon relearnt, or harmed."""
    models = report.of(label)
    if models[0].is_original:
        return []
    forgotten = [words for task in report.forget for words in _forgetting(report, models, task)]
    harms = {task: mean_of([report.harm(one, task) for one in models]) for task in report.retain}
    harmed = [f"{task} {change:+.2f} dB" for task, change in harms.items() if change < -COLLATERAL_DB]
    forgotten += _returning(report, models)
    harm = [f"collateral damage: {', '.join(harmed)} against the original"] if harmed else []
    return [*forgotten, *harm, *_dearer(report, models)]


def _forgetting(report: Report, models: Sequence[Measured], task: str) -> list[str]:
    depth = mean_of([one.score(task) - report.floor(one, task) for one in models])
    if depth < -OVER_DB:
        known = all(report.retrained(one.seed) for one in models)
        floor = "the lower of the retrained model and the untouched image" if known else "the untouched image"
        return [f"over-forgotten: {task} is {-depth:.2f} dB below {floor}"]
    gaps = [gap for one in models if (gap := report.gap(one, task)) is not None]
    if gaps and mean_of(gaps) > OVER_DB:
        return [f"still known: {task} is {mean_of(gaps):.2f} dB above the retrained model"]
    return []


def _dearer(report: Report, models: Sequence[Measured]) -> list[str]:
    """Return a warning if models cost more than their retrained references, over the seeds that have one."""
    pairs = [(one, other) for one in models if (other := report.retrained(one.seed)) is not None and other is not one]
    own, retraining = (mean_of([report.time_of(pair[side]) for pair in pairs]) for side in (0, 1))
    if not pairs or own <= DEARER * retraining:
        return []
    return [f"costs more than retraining: {own:,.0f} against {retraining:,.0f} {report.time_unit}"]


def _returning(report: Report, models: Sequence[Measured]) -> list[str]:
    """Return a warning if the task is relearnt in far fewer steps than by the retrained model.

    A budget that was too small for the retrained model counts as its number of steps.
    """
    pairs = [(one.audit.relearning, other.audit.relearning) for one in models if (other := report.retrained(one.seed))]
    known = [(own.steps, other.steps) for own, other in pairs if own is not None and other is not None]
    if not known or len(known) < len(models) or any(own is None for own, _ in known):
        return []
    mine = mean_of([own for own, _ in known if own is not None])
    theirs = mean_of([report.budget if steps is None else steps for _, steps in known])
    late = "more than " if any(steps is None for _, steps in known) else ""
    said = f"comes back: relearnt in {mine:.0f} steps, the retrained model in {late}{theirs:.0f}"
    return [said] if mine < RETURNING * theirs else []


def notes(report: Report) -> list[str]:
    """Return notes on what the figures mean and what they cannot show."""
    seeds = sorted({one.seed for one in report.models})
    missing = [seed for seed in seeds if report.references.get(seed) is None]
    said = [
        f"harm: change against the original; below -{COLLATERAL_DB} dB it is called collateral damage",
        "gap: signed difference to the model retrained without it; a retained task may gain by retraining",
        *(
            f"{scale.label}: lower is better; its harm and gap count so that below 0 is worse"
            for scale in report.scales
            if not scale.higher_is_better
        ),
        f"over-forgotten: more than {OVER_DB:g} dB below the lower of the retrained model and the untouched image",
        "membership AUC: of the forgotten task's training draws against later draws of the same images, 95 % interval; "
        "the retrained model's is the target. The tasks share clean images: it says little about a whole task",
        f"relearning: steps of training on the forgotten task alone until it is within {TOLERANCE_DB} dB of the "
        f"original, {report.budget} at most; the retrained model's own is the measure",
        f"steps and {report.time_unit}: from the original to the result, all that had to be trained and scored for it"
        + ("; CPU time of all threads" if report.time_unit == "CPU s" else ""),
    ]
    if report.before:
        said.append(f"forgotten before: {', '.join(report.before)}; the retrained model never saw them either")
    if missing:
        seeds_named = ", ".join(map(str, missing))
        said.append(f"{NO_REFERENCE} for seed {seeds_named}: nothing can be called forgotten; {report.way}")
    return said


def mean_of(values: Sequence[float]) -> float:
    """Return the mean. NaN if there are no values."""
    return sum(values) / len(values) if values else math.nan
